"""The faults of small data sets, from images to suggestions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from forebear.tasks.check import check
from forebear.tasks.faults.find import find_faults
from forebear.tasks.faults.suggestions import Faults
from tests.cli.making import image
from tests.data.making import encoded, noise
from tests.tasks.faults import making

pytest.importorskip("imagehash")
pytest.importorskip("cleanlab")


def found(train: making.Rows, val: making.Rows, **metrics: object) -> Faults:
    data = making.dataset(train, val)
    return find_faults(making.network(**metrics), data, check(data))


def test_a_wrong_label_is_suggested_with_the_class_that_the_image_shows() -> None:
    train = making.rows(20)
    train[2] = ("wrong.png", train[2][1], 1)  # stripes across
    faults = found(train, making.rows(5, first=20))
    first = faults.of("label")[0]
    assert (first.path, first.label, first.suggested) == ("wrong.png", "down", "across")
    assert (first.part, first.place) == ("train", 2)
    assert first.score > 0.5
    assert (faults.images, faults.skipped) == (75, 0)
    assert faults.methods[0].startswith("label errors of 75 images: 5-fold cross-validated logis")


def test_a_near_duplicate_across_parts_names_both_images() -> None:
    train, val = making.rows(8), making.rows(6, first=8)
    pixels = Image.fromarray(image(2, 3, 40))
    val.append(("again.jpg", encoded(pixels, "JPEG", quality=80), 2))
    faults = found(train, val)
    (one,) = [one for one in faults.of("near-duplicate") if "again.jpg" in one.path]
    assert (one.path, one.part, one.other_path) == ("again.jpg", "val", "grey/3.png")
    assert (one.place, one.other) == (24 + 18, 2 * 8 + 3)
    assert one.score > 0.9
    assert faults.across >= 1


def test_exact_copies_are_left_to_the_check() -> None:
    rows = [(f"{at}.png", encoded(noise(at, 40, 40), "PNG"), at % 3) for at in range(24)]
    copies = [(f"copy {name}", content, label) for name, content, label in rows[:5]]
    assert found(rows, copies).of("near-duplicate") == []


def test_an_outlier_is_listed() -> None:
    train = making.rows(25)
    black = np.zeros((40, 40, 3), np.uint8)
    train.append(("black.png", making.png(black), 2))
    outliers = found(train, []).of("outlier")
    assert [one.path for one in outliers][:1] == ["black.png"]
    assert outliers[0].score >= 6


def test_unreadable_images_are_skipped_and_counted() -> None:
    train = making.rows(6)
    train[4:4] = [("broken.png", b"words", 0), ("empty.png", b"", 0)]
    val = making.rows(2, first=6)
    faults = found(train, val)
    assert (faults.images, faults.skipped) == (24, 2)
    data = making.dataset(train, val)
    for one in faults.suggestions:
        assert one.path == check(data).rows[one.place].name
        assert one.path not in ("broken.png", "empty.png")


def test_classes_that_are_too_small_are_said() -> None:
    train = [row for row in making.rows(8) if row[2] < 2 or row[0] == "grey/0.png"]
    methods = found(train, []).methods
    assert (
        "label errors of 16 images (1 in classes with fewer than 5 distinct ones are" in methods[0]
    )


def test_nothing_is_found_in_no_usable_images() -> None:
    faults = found([("broken.png", b"words", 0)], [])
    assert (faults.images, faults.skipped, faults.suggestions) == (0, 1, ())


def test_images_with_several_labels_have_no_label_errors() -> None:
    rows = making.rows(12)
    data = making.dataset(rows, making.rows(4, first=12))
    several = np.zeros((len(data.train), len(data.classes)), np.uint8)
    several[np.arange(len(rows)), data.train.labels] = 1
    val = np.zeros((len(data.val), len(data.classes)), np.uint8)
    train, own = (
        replace(images, labels=labels)  # type: ignore[type-var]
        for images, labels in ((data.train, several), (data.val, val))
    )
    data = replace(data, train=train, val=own)
    faults = find_faults(making.network(), data, check(data))
    assert faults.methods[0].startswith("label errors: not looked for, as images have several la")
    assert faults.methods[0].endswith("pass the folder of train --folds")
    assert "nearest neighbour in the data set" in faults.methods[-1]
    assert faults.of("label") == []


def test_a_cross_validation_finds_wrong_and_missing_labels_of_several() -> None:
    data = making.dataset(making.rows(20), [])
    labels = np.eye(3, dtype=np.uint8)[data.train.labels]
    labels[:, 2] |= (np.arange(60) % 2).astype(np.uint8)
    shares = np.where(labels > 0, 0.9, 0.1) + np.linspace(0, 0.05, 60)[:, None]
    labels[3] = [1, 1, 0]  # down is wrong, grey is missing
    shares[3] = [0.92, 0.04, 0.96]
    images = replace(data.train, labels=labels)  # type: ignore[type-var]
    data = replace(data, train=images, val=images.take(np.zeros(0, np.int64)))
    faults = find_faults(making.network(), data, check(data), shares=shares)
    (one,) = faults.of("label")
    assert (one.place, one.label, one.suggested) == (3, "across;down", "across;grey")
    assert one.change == "also grey, not down"
    assert one.score == pytest.approx(0.96)
    assert faults.methods[0].startswith("label errors of 60 images in 3 labels: the out-of-fold")
