from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from forebear.data.dataset import Dataset, EncodedImages
from forebear.data.groups import grouped
from forebear.data.sources.group_by import (
    PathPattern,
    groups_of_paths,
    is_pattern,
    refuse_shared_groups,
    shared_groups,
)
from forebear.errors import DataError


@pytest.mark.parametrize(
    ("pattern", "path", "group"),
    [
        ("{group}_*.jpg", "cat/p12_left_1.jpg", "p12"),  # as short as possible
        ("{group}_#.jpg", "cat/my_video_0012.jpg", "my_video"),  # digits only
        ("{group}_#.jpg", "cat/my_video_12b.jpg", None),
        ("{group}#.jpg", "clip0012.jpg", "clip"),
        ("{group}_?.jpg", "a_b_c.jpg", "a_b"),
        ("{group}/*", "cat/p1/2.png", "p1"),
        ("{group}/*/*", "cat/p1/2.png", "cat"),
        ("/{group}/*", "cat/p1/2.png", "p1"),
        ("{group}/*/*/*", "cat/p1/2.png", None),  # deeper than the path
        ("*/{group}_*", "1.5/a+b_1.png", "a+b"),
        ("x{group}.png", "x.png", None),  # a group has a name
        ("{group}_*.jpg", "cat/_1.jpg", None),
        ("{group}_*.jpg", "cat_1/x.jpg", None),  # the name of the file, not the path
        ("{group}.jpg", "A.JPG", None),  # upper and lower case differ
        ("{group}/{group}_*", "cat/1_a.jpg", "cat/1"),
        ("[{group}]*", "[ab]1.jpg", "ab"),
    ],
)
def test_a_pattern_reads_the_group_off_the_end_of_a_path(
    pattern: str, path: str, group: str | None
) -> None:
    assert PathPattern(pattern).group(path) == group


def test_what_has_no_mark_is_a_column() -> None:
    assert is_pattern("{group}*")
    assert not is_pattern("patient")
    assert not is_pattern("{patient}_*")


@pytest.mark.parametrize("root", [Path("/data/p9_x/set"), Path()])
def test_paths_are_relative_to_the_folder(root: Path) -> None:
    parts = groups_of_paths("{group}_*", {"train": [str(root / "p1_a.png")]}, root)
    assert parts["train"].names == ("p1",)
    with pytest.raises(DataError, match=r"a\.png: does not match --group-by \{group\}/\* \(1 of 2"):
        groups_of_paths("{group}/*", {"train": [str(root / n) for n in ("x/b", "a.png")]}, root)


def data(train: list[str], val: list[str], test: list[str] | None) -> Dataset:
    """Images that are named after their part and number."""

    def images(part: str, names: list[str]) -> EncodedImages:
        files = [f"{part}{at}" for at in range(len(names))]
        return EncodedImages(files, files, np.zeros(len(names), np.int64))

    parts = {"train": train, "val": val} | ({} if test is None else {"test": test})
    return Dataset(
        spec="csv:x",
        classes=("a",),
        train=images("train", train),
        val=images("val", val),
        test=None if test is None else images("test", test),
        side=8,
        mirror=True,
        split="",
        fingerprint="",
        groups=grouped("patient", parts),
    )


def test_a_group_in_two_parts_is_named_with_its_counts_and_files() -> None:
    found = data(["b", "a", "c", "a"], ["d", "a"], ["e", "c"])
    assert [group.name for group in shared_groups(found)] == ["a", "c"]
    said = (
        r"^csv:x: the group a is in train \(2 images, such as train1\) and val \(1 image, such as "
        r"val1\); 2 such groups by patient\. Expected"
    )
    with pytest.raises(DataError, match=said):
        refuse_shared_groups(found)


def test_groups_in_one_part_each_are_fine() -> None:
    refuse_shared_groups(data(["a", "b"], ["c"], None))
    refuse_shared_groups(data(["a", "b"], ["c"], ["d"]))


def test_the_documentation_gives_the_groups_that_are_found() -> None:
    page = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    rows = re.findall(r"^\| `(.*\{group\}.*)` \| `(.+?)` \| `(.+?)`", page, re.MULTILINE)
    assert len(rows) == 4
    assert [PathPattern(pattern).group(path) for pattern, path, _ in rows] == [
        group for _, _, group in rows
    ]
