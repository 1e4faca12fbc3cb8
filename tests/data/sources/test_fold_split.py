"""Each fold's training and validation images, of data with and without a validation set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forebear.data.dataset import ArrayImages, Dataset
from forebear.data.fold import Fold
from forebear.data.groups import grouped
from forebear.data.sources.fold_split import FoldPlan, split_fold
from forebear.data.sources.read_options import ReadOptions
from forebear.data.sources.registry import read_data
from forebear.data.sources.split import given, split_validation
from forebear.errors import DataError
from tests.cli import making
from tests.tasks.labels_making import multi_table


def images(count: int, classes: int = 3, seed: int = 0) -> ArrayImages:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)
    return ArrayImages(pixels, np.arange(count) % classes, "x")


def split_off(count: int = 60) -> Dataset:
    names = ("a", "b", "c")
    return split_validation(images(count), fraction=0.15, spec="npz:x", classes=names, side=4)


def contents(data: Dataset, part: str) -> list[bytes]:
    own = getattr(data, part)
    return [own.digest(at) for at in range(len(own))]


def test_each_image_validates_once_and_trains_in_all_other_folds() -> None:
    data = split_off()
    assert data.whole is not None
    every = sorted(data.whole.digest(at) for at in range(60))
    parts = [split_fold(data, Fold(number, 4)) for number in (1, 2, 3, 4)]
    assert sorted(one for part in parts for one in contents(part, "val")) == every
    for part in parts:
        assert sorted(contents(part, "train") + contents(part, "val")) == every
        assert np.bincount(part.val.labels).tolist() == [5, 5, 5]
        assert (part.splits_off, part.test) == (True, None)
        assert part.split.endswith(
            "of 4 validates, stratified by class, chosen by sha256 of the images"
        )
    assert len({part.fingerprint for part in parts}) == 4


def test_the_places_of_a_plan_are_those_of_its_validation_images() -> None:
    data = split_off()
    plan = FoldPlan.of(data, 3)
    assert plan.images is data.whole  # so that numbers are those of the data set
    for number in (1, 2, 3):
        own = plan.images.take(plan.places(number))
        assert (own.pixels == plan.split(number).val.pixels).all()  # type: ignore[attr-defined]


def test_a_validation_set_of_the_datas_own_is_the_test_set_of_each_fold() -> None:
    train, val = images(30), images(9, seed=1)
    data = given(train, val, spec="npz:x", classes=("a", "b", "c"), side=4, split="given")
    found = split_fold(data, Fold(2, 3))
    assert found.test is val
    assert (len(found.train), len(found.val)) == (20, 10)
    assert not set(contents(found, "val")) & set(contents(data, "val"))


def test_groups_follow_and_stay_in_one_fold(tmp_path: Path) -> None:
    folder = making.folder(tmp_path / "data", 20)
    for path in folder.rglob("*.png"):
        path.rename(path.with_name(f"g{int(path.stem) // 4}_{path.name}"))
    data = read_data(f"folder:{folder}", ReadOptions(group_by="{group}_*.png"))
    plan = FoldPlan.of(data, 3)
    assert plan.groups is not None
    for number in range(5):
        own = [at for at in range(60) if plan.groups.name(at) == f"g{number}"]
        assert len(own) == 12
        assert len(set(plan.numbers[own].tolist())) == 1
    for number in (1, 2, 3):
        part = plan.split(number)
        names = [
            {groups.name(at) for at in range(len(groups.numbers))}
            for groups in part.groups.values()
        ]
        assert not names[0] & names[1]
        assert ", in whole groups by {group}_*.png, " in part.split


def test_the_groups_of_a_test_set_are_kept() -> None:
    data = given(
        images(30), images(9, seed=1), spec="npz:x", classes=("a", "b", "c"), side=4, split="given",
        groups=grouped("g", {"train": [str(at % 10) for at in range(30)], "val": ["y"] * 9}),
    )  # fmt: skip
    assert split_fold(data, Fold(1, 2)).groups["test"].name(0) == "y"


def test_too_many_folds_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        FoldPlan.of(split_off(), 21)
    assert str(caught.value).startswith("folds=21: class a has only 20 different images. Expected")


def test_folds_of_several_labels_are_stratified_by_label_in_whole_groups(tmp_path: Path) -> None:
    table = multi_table(tmp_path / "data", 48)
    head, *rows = table.read_text().splitlines()
    scenes = [f"{row},{at // 4}" for at, row in enumerate(rows)]
    table.write_text("\n".join([f"{head},scene", *scenes]))
    data = read_data(f"csv:{table}", ReadOptions(group_by="scene"))
    plan = FoldPlan.of(data, 2)
    for number in (1, 2):
        part = plan.split(number)
        assert part.multi_label
        assert "stratified by label, in whole groups by scene" in part.split
        assert (part.val.labels.sum(0) > 0).all()
        assert (part.train.labels.sum(0) > 0).all()
