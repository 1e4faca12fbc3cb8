from __future__ import annotations

import math
from typing import Any

import pytest

from forebear.network.calibration import Calibration, calibration_from_dict

VALUES: dict[str, Any] = {
    "temperature": 1.5, "score": "probability", "threshold": 0.4, "unknown_rate": 0.05,
    "images": 100, "fingerprint": "ab12", "ece_before": 0.1, "ece_after": 0.02,
}  # fmt: skip


def test_a_calibration_is_plain_data_and_back() -> None:
    made = Calibration(**VALUES)
    assert made.as_dict() == VALUES
    assert calibration_from_dict(VALUES) == made
    assert calibration_from_dict(None) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0. Expected a number from 0.015625 to 64"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"temperature": math.inf}, "temperature=inf"),
        ({"temperature": True}, "temperature=True"),
        ({"temperature": "1"}, "temperature='1'"),
        ({"threshold": math.inf}, "threshold=inf"),
        ({"threshold": None}, "threshold=None"),
        ({"score": "luck"}, "score='luck'. Expected one of probability, energy"),
        ({"score": ["energy"]}, r"score=\['energy'\]"),
        ({"unknown_rate": 1.5}, "unknown_rate=1.5"),
        ({"images": 0}, "images=0. Expected an integer from 1"),
        ({"images": 2.0}, "images=2.0"),
        ({"fingerprint": "a\nb"}, "fingerprint="),
        ({"ece_before": -0.1}, "ece_before=-0.1"),
        ({"ece_after": 2}, "ece_after=2"),
        ({"surprise": 1}, "calibration: the key 'surprise' is unknown"),
    ],
)
def test_a_value_that_is_not_possible_is_refused_by_its_name(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        calibration_from_dict(VALUES | changes)
    assert "\n" not in str(caught.value)


def test_missing_keys_and_other_data_are_refused() -> None:
    for key in ("temperature", "threshold", "images", "ece_before"):
        less = {name: value for name, value in VALUES.items() if name != key}
        with pytest.raises(ValueError, match=f"calibration: the key '{key}' is missing"):
            calibration_from_dict(less)
    with pytest.raises(ValueError, match="calibration=3: expected a mapping"):
        calibration_from_dict(3)
