from __future__ import annotations

import numpy as np
import pytest

from forebear.data.sources.label_checks import checked_classes, checked_labels, numbered_classes
from forebear.errors import DataError
from forebear.limits import CLASSES


def test_good_names_come_back() -> None:
    assert checked_classes(["Füße", "a\nb", "猫"], "x") == ("Füße", "a\nb", "猫")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "0 classes. Expected 1 to 100,000"),
        (["a", "b", "a"], "the class name 'a' is the name of two classes"),
        (["a", ""], "the class name '' is empty"),
        (["a", "  "], "the class name '  ' is empty"),
        (["a\udc80"], "the class name 'a\\\\udc80' is not UTF-8"),
        (["x" * 1001], "has 1,001 characters"),
        ([str(n) for n in range(CLASSES + 1)], "100,001 classes"),
    ],
)
def test_names_that_cannot_be_told_apart_or_saved_are_refused(names: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        checked_classes(names, "x")


def test_labels_out_of_range_are_counted() -> None:
    assert checked_labels(np.array([0, 1]), ("a", "b"), "x").dtype == np.int64
    with pytest.raises(DataError, match=r"label 2 at index 1 \(2 such labels\). Expected 0 to 1"):
        checked_labels(np.array([0, 2, -1]), ("a", "b"), "x")


def test_numbers_must_be_without_gaps() -> None:
    assert numbered_classes(np.array([1, 0, 1]), "x", remedy="name them") == ("0", "1")
    with pytest.raises(DataError, match=r"labels 1, 2\. .* Renumber the labels, or name them"):
        numbered_classes(np.array([1, 2]), "x", remedy="name them")
