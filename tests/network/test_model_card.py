"""Metadata of weights: class names that differ, and values that JSON can hold."""

from __future__ import annotations

from typing import Any

import pytest

from forebear.network.model_card import ModelCard
from forebear.tables.preprocessing import TORCHVISION


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("a", "b", "a"), "classes: classes 0 and 2 have the same name, 'a'. Expected names that"),
        (("a", ""), "classes: class 1 is ''. Expected a name of 1 to 1,000 characters"),
        (("a", 5), "classes: class 1 is 5. Expected a name"),
        (("a\udc80",), r"classes: class 0 is 'a\\udc80'. Expected .* that UTF-8 can encode"),
        (("a" * 1001,), "classes: class 0 is 'aaa.*Expected a name of 1 to 1,000 characters"),
        (["a"], r"classes: \['a'\]. Expected at most 100,000 names in a tuple"),
        (tuple(map(str, range(100_001))), "classes: 100,001 names. Expected at most 100,000"),
    ],
)
def test_class_names_that_cannot_be_keys_are_refused(classes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelCard(preprocessing=TORCHVISION, classes=classes)


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize("field", ["metrics", "provenance"])
@pytest.mark.parametrize("value", [[1], None, {"a": {1}}, {1: 2}, {"a": b"x"}, deep(65)])
def test_values_that_json_cannot_hold_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^card: {field}=.*Expected a mapping of names to numb"):
        ModelCard(preprocessing=TORCHVISION, **{field: value})
    plain: dict[str, Any] = {"a": [1, 2.5, None, True, "x", {"b": ()}]}
    for good in (deep(64), plain):
        held: dict[str, Any] = {field: good}
        ModelCard(preprocessing=TORCHVISION, **held)


def test_there_is_a_class_name_for_each_logit_or_none() -> None:
    card = ModelCard(preprocessing=TORCHVISION, classes=("a", "b"))
    card.require_logits(2)
    ModelCard(preprocessing=TORCHVISION).require_logits(7)
    for count in (1, 3, None):
        with pytest.raises(ValueError, match=f"^2 class names for {count} logits: expected one"):
            card.require_logits(count)


def test_the_preprocessing_is_a_record() -> None:
    with pytest.raises(ValueError, match="^card: preprocessing=None. Expected a Preprocessing"):
        ModelCard(preprocessing=None)  # type: ignore[arg-type]


def test_a_calibration_is_one_or_none() -> None:
    with pytest.raises(ValueError, match="calibration=1.5. Expected a Calibration or None"):
        ModelCard(preprocessing=TORCHVISION, calibration=1.5)  # type: ignore[arg-type]
