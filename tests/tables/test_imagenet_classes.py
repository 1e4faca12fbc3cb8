"""Class names: how many, which, and where."""

from __future__ import annotations

import pytest

from forebear.data.sources.cifar10 import CLASSES
from forebear.tables.imagenet_classes import class_names, synset_name


def test_a_thousand_names_and_no_two_alike() -> None:
    names = class_names("imagenet-1000")
    assert len(names) == len(set(names)) == 1000
    assert all(name and name == name.strip() and name.isprintable() for name in names)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (0, "tench"),
        (1, "goldfish"),
        (134, "crane bird"),
        (207, "golden retriever"),
        (340, "zebra"),
        (517, "crane"),
        (638, "maillot"),
        (639, "maillot tank suit"),
        (999, "toilet tissue"),
    ],
)
def test_names_are_at_their_places(place: int, name: str) -> None:
    assert class_names("imagenet-1000")[place] == name
    assert class_names("imagenet-1001")[place + 1] == name


def test_the_variant_of_tf_slim_starts_with_background() -> None:
    assert class_names("imagenet-1001") == ("background", *class_names("imagenet-1000"))


def test_the_names_of_cifar10_are_those_of_its_reader() -> None:
    assert class_names("cifar10") == CLASSES


def test_synsets_have_their_class_names() -> None:
    assert synset_name("n01440764") == "tench"
    assert synset_name("n15075141") == "toilet tissue"
    assert synset_name("n00000000") is None


def test_another_class_set_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"^kind='imagenet' is not a known class set\. Expected one of imagenet-1000, "
        r"imagenet-1001, cifar10\. Pass one of these\.$",
    ):
        class_names("imagenet")
