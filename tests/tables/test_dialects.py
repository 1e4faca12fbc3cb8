from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from typing import Any

import pytest

from forebear.tables.dialects import DIALECTS, SLIM_V1, Dialect
from forebear.tables.files import dialect_from_dict


def test_no_dialect_leaves_a_question_open() -> None:
    assert all(field.default is field.default_factory for field in fields(Dialect))
    assert len(DIALECTS) == len(set(DIALECTS.values())) == 32


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_is_the_same_after_a_round_trip_as_json(name: str) -> None:
    assert dialect_from_dict(json.loads(json.dumps(asdict(DIALECTS[name])))) == DIALECTS[name]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("name", "a\x1b[31m", "a string of one line and at most 200 characters"),
        ("name", None, "a string of one line"),
        ("order", "middle", "one of post, pre"),
        ("strided_unit", 1, "one of first, last"),
        ("pool_fill", ["lowest"], "one of lowest, zero"),
        ("shortcut", "none", "one of widen, change, first, always, after, split"),
        ("root_norm", 1, "true or false"),
        ("final_norm", "false", "true or false"),
        ("norm_eps", 0, "a number above 0 and up to 1"),
        ("norm_eps", math.inf, "a number above 0 and up to 1"),
        ("norm_eps", math.nan, "a number above 0 and up to 1"),
        ("norm_eps", True, "a number above 0 and up to 1"),
        ("norm_decay", 1.5, "a number from 0 to 1"),
        ("norm_decay", "0.9", "a number from 0 to 1"),
        ("init", "xavier", "one of slim, slim-alexnet, glorot"),
    ],
)
def test_a_value_that_is_not_possible_is_refused_by_its_field(
    field: str, value: Any, expected: str
) -> None:
    with pytest.raises(ValueError, match=f"^dialect .*: {field}=.*Expected {expected}.*Correct"):
        dialect_from_dict({**asdict(SLIM_V1), field: value})


def test_plain_data_that_are_no_dialect_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^dialect=\[\]: expected a mapping with the keys name,"):
        dialect_from_dict([])
    with pytest.raises(ValueError, match="^dialect: the key 'ordr' is unknown.*Did you mean order"):
        dialect_from_dict({**asdict(SLIM_V1), "ordr": "post"})
    with pytest.raises(ValueError, match="^preprocessing=None: expected a mapping"):
        dialect_from_dict({**asdict(SLIM_V1), "preprocessing": None})
