"""Lines of metrics.jsonl, whoever wrote them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from forebear.tasks.runs.metrics import Epoch
from tests.tasks.runs.test_folder import EPOCH


def test_a_line_comes_back() -> None:
    assert Epoch.read(json.dumps(asdict(EPOCH))) == EPOCH
    newer = replace(EPOCH, val_balanced=0.25, val_macro_f1=0.5)
    assert Epoch.read(json.dumps(asdict(newer))) == newer
    older = asdict(EPOCH)
    for name in ("val_images", "val_balanced", "val_macro_f1"):
        del older[name]
    assert Epoch.read(json.dumps(older)) == EPOCH


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"losses": "abc"}, "losses='abc' is no number"),
        ({"lrs": [None]}, r"lrs=\[None\] is no number"),
        ({"val_loss": None}, "val_loss=None is no number"),
        ({"val_balanced": "0.5"}, "val_balanced='0.5' is no number"),
        ({"step": True}, "step=True is no number"),
        ({"other": 1}, "the field other is unknown"),
    ],
)
def test_values_of_other_kinds_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Epoch.read(json.dumps(asdict(EPOCH) | changed))


@pytest.mark.parametrize("line", ["[]", "{", "[" * 100_000, "1"])
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match="is no object|nested more|Expecting"):
        Epoch.read(line)


def test_a_missing_field_is_named() -> None:
    data = asdict(EPOCH)
    del data["losses"]
    with pytest.raises(ValueError, match="the field losses is missing"):
        Epoch.read(json.dumps(data))
