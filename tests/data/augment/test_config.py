"""The record of an augmentation: its defaults, its ranges, and which fields have an effect."""

from __future__ import annotations

import re
from dataclasses import asdict

import pytest

from forebear.data.augment.config import Augment
from forebear.settings import check, in_force, settings


def test_defaults_shift_and_mirror_and_nothing_else() -> None:
    rule = Augment()
    check(rule)
    assert (rule.crop, rule.shift, rule.border, rule.mirror) == ("shift", -1, "black", "auto")
    assert set(in_force(Augment, asdict(rule))) == {"crop", "shift", "border", "mirror"}


@pytest.mark.parametrize(
    ("chosen", "effective"),
    [
        ({"crop": "resized"}, {"crop_scale", "crop_ratio"}),
        ({"crop": "middle"}, set()),
        ({"policy": "randaugment"}, {"shift", "border", "operations", "magnitude"}),
        ({"policy": "trivialaugment"}, {"shift", "border"}),
        ({"jitter": 0.4, "cutout": 8}, {"shift", "border", "jitter", "cutout"}),
    ],
)
def test_a_field_has_an_effect_where_its_own_kind_is_chosen(
    chosen: dict[str, object], effective: set[str]
) -> None:
    found = set(in_force(Augment, {**asdict(Augment()), **chosen}))
    assert found - {"crop", "mirror", "policy"} == effective


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("crop", "center", "one of auto, shift, resized, middle"),
        ("border", "white", "one of black, reflect"),
        ("mirror", "both", "one of auto, random, alternate, none"),
        ("policy", "autoaugment", "one of auto, none, randaugment, trivialaugment"),
        ("shift", -2, "-1 or more"),
        ("operations", 0, "1 or more"),
        ("magnitude", -1.0, "0 or more"),
        ("jitter", float("nan"), "0 or more"),
        ("cutout", -1, "0 or more"),
        ("random_erasing", 1.0, "a number from 0 up to, but not including, 1"),
    ],
)
def test_values_out_of_range_are_refused_with_the_range(
    field: str, value: object, expected: str
) -> None:
    message = f"^{re.escape(f'{field}={value!r}: expected {expected}')}"
    with pytest.raises(ValueError, match=message):
        check(Augment(**{field: value}))  # type: ignore[arg-type]


def test_every_field_has_help_and_lengths_their_unit() -> None:
    known = settings(Augment)
    assert set(known) == set(asdict(Augment()))
    assert all(field.help for field in known.values())
    assert {name for name, field in known.items() if field.unit == "pixels"} == {"shift", "cutout"}
