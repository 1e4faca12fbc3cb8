"""What is found in a set of images: each fact from the images' own bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from forebear.data.dataset import ArrayImages, Dataset, EncodedImages, Images
from forebear.data.groups import grouped
from forebear.tasks.check import Checked, Row, check
from tests.data.making import encoded, noise

A, B, C = (encoded(noise(seed), "PNG") for seed in range(3))
JPEG = encoded(noise(3, 40, 30), "JPEG")


def images(*rows: tuple[str, bytes, int]) -> EncodedImages:
    """Images given by name, bytes and label."""
    names, contents, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return EncodedImages(list(contents), list(names), np.array(labels, np.int64))


def checked(train: Images, val: Images, classes: Sequence[str] = ("cat", "dog")) -> Checked:
    data = Dataset(
        spec="x",
        classes=tuple(classes),
        train=train,
        val=val,
        side=8,
        mirror=True,
        split="made by hand",
        fingerprint="",
    )
    return check(data)


def names(groups: list[list[Row]]) -> list[list[str]]:
    return [[row.name for row in group] for group in groups]


def test_rows_come_in_order_with_their_part_label_and_digest() -> None:
    found = checked(images(("a", A, 1), ("b", B, 0)), images(("c", C, 1)))
    assert [(row.name, row.part, row.label) for row in found.rows] == [
        ("a", "train", "dog"),
        ("b", "train", "cat"),
        ("c", "val", "dog"),
    ]
    assert [row.sha256 for row in found.rows] == [
        hashlib.sha256(content).hexdigest() for content in (A, B, C)
    ]
    assert [row.bytes for row in found.rows] == [len(content) for content in (A, B, C)]
    assert found.counts == [("cat", 1, 0), ("dog", 1, 1)]
    assert not found.bad
    assert found.seconds > 0


def test_rows_of_a_test_part_come_last_and_each_has_its_group() -> None:
    data = Dataset(
        spec="x",
        classes=("cat",),
        train=images(("a", A, 0), ("b", B, 0)),
        val=images(("c", C, 0)),
        test=images(("again", A, 0)),
        side=8,
        mirror=True,
        split="",
        fingerprint="",
        groups=grouped("patient", {"train": ["p", "q"], "val": ["r"], "test": ["s"]}),
    )
    found = check(data)
    assert [(row.name, row.part, row.group) for row in found.rows] == [
        ("a", "train", "p"),
        ("b", "train", "q"),
        ("c", "val", "r"),
        ("again", "test", "s"),
    ]
    assert names(found.leaks()) == [["a", "again"]]
    assert {row.group for row in check(replace(data, groups={})).rows} == {None}


def test_a_class_without_training_images_is_empty() -> None:
    found = checked(images(("a", A, 0)), images(("b", B, 1)))
    assert found.empty == ["dog"]
    assert found.counts == [("cat", 1, 0), ("dog", 0, 1)]


def test_copies_are_grouped_and_told_by_part_and_label() -> None:
    train = images(("a", A, 0), ("again", A, 0), ("b", B, 0), ("c", C, 1))
    found = checked(train, images(("b of val", B, 0), ("c of val", C, 0)))
    assert names(found.copies()) == [["a", "again"], ["b", "b of val"], ["c", "c of val"]]
    assert names(found.leaks()) == [["b", "b of val"], ["c", "c of val"]]
    assert names(found.disagreements()) == [["c", "c of val"]]


def test_broken_and_empty_files_are_bad_and_no_copies_of_each_other() -> None:
    train = images(("cut", A[:-100], 0), ("none", b"", 0), ("none either", b"", 1))
    found = checked(train, images(("a", A, 1)))
    assert [row.name for row in found.bad] == ["cut", "none", "none either"]
    assert all(str(row.error).startswith(row.name) for row in found.bad)
    assert found.copies() == []


def test_what_is_odd_is_named_by_kind() -> None:
    exif = noise(4).getexif()
    exif[0x0112] = 6
    turned = encoded(noise(4), "JPEG", exif=exif)
    cmyk = encoded(noise(5).convert("CMYK"), "JPEG")
    frames = encoded(noise(6), "GIF", save_all=True, append_images=[noise(7)])
    train = images(
        ("turned.jpg", turned, 0),
        ("plain.jpeg", JPEG, 0),
        ("cmyk.jpg", cmyk, 0),
        ("frames.gif", frames, 0),
        ("really.png", JPEG, 1),
        ("no ending", A, 1),
    )
    odd = checked(train, images()).odd()
    assert {kind: [row.name for row in rows] for kind, rows in odd.items()} == {
        "turned by EXIF": ["turned.jpg"],
        "animated or paged": ["frames.gif"],
        "CMYK": ["cmyk.jpg"],
        "named as another format": ["really.png"],
    }


def test_sizes_and_formats_are_counted() -> None:
    medium = encoded(noise(8, 10, 20), "PNG")
    train = images(("large", JPEG, 1), ("a", A, 0), ("medium", medium, 0))
    found = checked(train, images())
    assert found.sizes == ((12, 8), (10, 20), (40, 30))
    assert found.tally("format") == [("PNG", 2), ("JPEG", 1)]


def test_nothing_is_found_in_no_images() -> None:
    found = checked(images(), images())
    assert (found.rows, found.sizes, found.copies(), found.odd()) == ((), (), [], {})
    assert found.empty == ["cat", "dog"]


def test_arrays_have_digests_of_their_pixels_and_no_files() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    pixels[2] = pixels[0]
    train = ArrayImages(pixels, np.array([0, 1, 0]), "digits train")
    found = checked(train, ArrayImages(pixels[:0], np.zeros(0, np.int64), "digits val"))
    assert [(row.bytes, row.facts, row.error) for row in found.rows] == [(None, None, None)] * 3
    assert found.rows[1].sha256 == hashlib.sha256(pixels[1].tobytes()).hexdigest()
    assert names(found.copies()) == [["digits train number 0", "digits train number 2"]]


def test_the_manifest_has_one_object_a_line(tmp_path: Path) -> None:
    found = checked(images(("a.png", A, 0), ("cut\n", A[:-100], 1)), images())
    found.write_manifest(tmp_path / "m.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == ["a.png", "'cut\\n'"]
    assert (lines[0]["format"], lines[0]["width"], lines[0]["height"]) == ("PNG", 12, 8)
    assert lines[0]["error"] is None
    assert lines[1]["error"]
    assert {*lines[0]} == {*lines[1]}


@pytest.mark.parametrize("count", [1, 256, 300])
def test_progress_ends_with_all_images(count: int) -> None:
    seen: list[tuple[int, int]] = []
    data = Dataset(
        spec="x",
        classes=("cat",),
        train=images(*[(str(n), A, 0) for n in range(count)]),
        val=images(("b", B, 0)),
        side=8,
        mirror=True,
        split="",
        fingerprint="",
    )
    assert len(check(data, lambda done, total: seen.append((done, total))).rows) == count + 1
    assert seen == [(done, count + 1) for done in {min(256, count): 0, count: 0, count + 1: 0}]
