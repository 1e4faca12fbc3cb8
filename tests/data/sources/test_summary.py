from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from forebear.data.groups import grouped
from forebear.data.sources.registry import read_data
from forebear.data.sources.summary import summary
from tests.data.making import encoded, noise, write

HEIC = b"\0\0\0\x18ftypheic" + bytes(20)


def test_parts_origins_and_skipped_files_are_one_line(tmp_path: Path) -> None:
    seed = 0
    for place, count in (("Train/a", 3), ("Train/b", 2), ("valid/a", 2), ("test/b", 1)):
        for number in range(count):
            write(tmp_path / place / f"{number}.png", encoded(noise(seed), "PNG"))
            seed += 1
    write(tmp_path / "Train/a/IMG_1", encoded(noise(99), "JPEG"))
    write(tmp_path / "Train/a/1.heic", HEIC)
    write(tmp_path / "Train/a/2", HEIC)
    write(tmp_path / "Train/b/notes", b"words")
    write(tmp_path / "valid/a/labels.txt", b"words")
    write(tmp_path / "loose.png", encoded(noise(98), "PNG"))
    data = read_data(f"folder:{tmp_path}")
    assert summary(data) == (
        "train: 6 images in 2 classes from Train/; validation: 2 from valid/; test: 1 from test/, "
        "not used; 5 files skipped: 2 HEIC, 1 without ending that are no images, 1 .txt, "
        "1 outside of class folders"
    )
    assert "test: 1 from test/, evaluated once at the end" in summary(data, tests=True)


def test_a_split_says_how_it_was_made() -> None:
    line = summary(read_data("digits"))
    assert line.startswith("train: 1,438 images in 10 classes; validation: 359, 20% of each class")


def test_many_reasons_are_cut() -> None:
    data = replace(read_data("digits"), skipped={f".{n}": 1 for n in range(7)})
    assert summary(data).endswith("7 files skipped: 1 .0, 1 .1, 1 .2, 1 .3, 1 .4, 1 .5, ...")


def test_groups_are_counted_over_the_parts() -> None:
    groups = grouped("patient", {"train": ["a", "b", "a"], "val": ["b"], "test": ["c"]})
    line = summary(replace(read_data("digits"), groups=groups))
    assert line.endswith("; 3 groups by patient (train 2, validation 1, test 1)")
    alone = summary(replace(read_data("digits"), groups=grouped("x\n", {"train": ["a"]})))
    assert alone.endswith("; 1 group by 'x\\n' (train 1)")
