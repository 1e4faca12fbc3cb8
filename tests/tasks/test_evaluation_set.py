"""Which images are evaluated, and which logit stands for which class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from forebear.data.dataset import ArrayImages, Dataset
from forebear.data.groups import grouped
from forebear.data.sources.registry import read_data
from forebear.errors import DataError
from forebear.tables.imagenet_classes import class_names
from forebear.tasks.evaluation_set import choose_images, match_classes, other_split


def dataset(*classes: str) -> Dataset:
    images = ArrayImages(np.zeros((4, 2, 2, 1), np.uint8), np.zeros(4, np.int64), "x")
    return Dataset(
        spec="npz:x",
        classes=classes,
        train=images,
        val=images.take(np.arange(3)),
        side=2,
        mirror=True,
        split="given",
        fingerprint="f",
    )


@pytest.mark.parametrize(
    ("known", "logits", "names", "numbers", "said"),
    [
        (("0", "1", "10", "2"), 4, ("0", "1", "2", "10"), [0, 1, 3, 2], "by name"),
        (("cat", "dog", "cow"), 3, ("cow", "cat"), [2, 0], "by name"),
        (class_names("imagenet-1000"), 1000, ("n01440764", "n01443537"), [0, 1], "by WordNet ID"),
        (class_names("imagenet-1001"), 1001, ("n01440764", "n01443537"), [1, 2], "by WordNet ID"),
        (class_names("imagenet-1000"), 1000, ("0", "999"), [0, 999], "by ImageNet's number"),
        (class_names("imagenet-1001"), 1001, ("0", "999"), [1, 1000], "by ImageNet's number"),
        (class_names("cifar10"), 10, tuple("0123456789"), list(range(10)), "by CIFAR-10's number"),
        ((), 12, ("0", "11", "2"), [0, 11, 2], "by number: the network has no class names"),
        ((), 2, ("cat", "dog"), [0, 1], "by order: the network has no class names"),
    ],
)
def test_classes_are_matched_by_what_both_sides_know(
    known: tuple[str, ...], logits: int, names: tuple[str, ...], numbers: list[int], said: str
) -> None:
    match = match_classes(known, logits, dataset(*names))
    assert match.numbers.tolist() == numbers
    assert said in match.said


@pytest.mark.parametrize(
    ("known", "logits", "names", "said"),
    [
        (("cat", "dog"), 2, ("0", "1"), "its class '0' is unknown to the network"),
        (("cat", "dog"), 2, ("Cat", "dog"), "Did you mean cat?"),
        (class_names("imagenet-1000"), 1000, ("0", "1000"), "its class '0' is unknown"),
        ((), 3, ("cat", "dog"), "2 classes, but the network has 3 logits without names"),
        ((), 3, ("0", "3"), "2 classes, but the network has 3 logits without names"),
    ],
)
def test_classes_are_never_matched_by_a_guess(
    known: tuple[str, ...], logits: int, names: tuple[str, ...], said: str
) -> None:
    with pytest.raises(DataError, match=said.replace("?", r"\?")):
        match_classes(known, logits, dataset(*names))


def test_images_that_were_split_off_are_all_evaluated_unless_the_network_knows_the_others() -> None:
    data = read_data("digits")
    every = choose_images(data, None, {})
    assert len(every.images) == 1797
    assert every.said == "digits: all 1,797 images"
    for key in ("fingerprint", "data_fingerprint"):
        own = choose_images(data, None, {key: data.fingerprint})
        assert own.images is data.val
        assert own.said == (
            "digits: the 359 validation images, of 1,797 in all: the network was trained on the "
            "others"
        )


def test_a_part_can_be_asked_for() -> None:
    data = replace(dataset("a"), origins={"val": "valid/"})
    assert choose_images(data, None, {}).said == (
        "npz:x: the 3 validation images from valid/, of 7 in all"
    )
    assert len(choose_images(data, "train", {}).images) == 4
    assert len(choose_images(data, "all", {}).images) == 7
    with pytest.raises(DataError, match="no test part. Expected one of train, val, all"):
        choose_images(data, "test", {})
    with pytest.raises(ValueError, match="part='best': expected one of val, train, test, all"):
        choose_images(data, "best", {})
    tested = replace(data, test=data.val)
    assert choose_images(tested, "test", {}).images is data.val
    assert len(choose_images(tested, "all", {}).images) == 10


def test_a_network_of_another_split_is_pointed_out() -> None:
    data = read_data("digits")
    said = other_split(data, {"group_by": "patient", "fingerprint": "other"})
    assert said.startswith("the network was trained with --group-by patient: if these are the same")
    assert not other_split(data, {})
    assert not other_split(data, {"group_by": "patient", "fingerprint": data.fingerprint})
    assert not other_split(replace(data, whole=None), {"group_by": "patient"})
    groups = grouped("patient", {"train": ["a"]})
    assert not other_split(replace(data, groups=groups), {"group_by": "patient"})
