"""How the logits of a multi-label network become labels: one sigmoid and one threshold each."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from forebear.limits import CLASSES
from forebear.tables.checks import check_keys, is_count, is_line, is_number, refuse

_IMAGES = 10**12
DEFAULT = 0.5  # the threshold of a label for which none was chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiLabel:
    """The thresholds of a network whose images can have several labels, or none.

    The probability of a label is the sigmoid of its logit. The labels of an image are those whose
    probability is at least their threshold.

    Raises:
        ValueError: A value is not possible.
    """

    thresholds: tuple[float, ...]  # 0 to 1, in the order of the logits
    images: int = 0  # that the thresholds were chosen on; 0 if all are the default
    fingerprint: str = ""  # of the data set

    def __post_init__(self) -> None:
        expected = "a number from 0 to 1 for each label"
        refuse(_fits(self.thresholds), "multi_label", "thresholds", self.thresholds, expected)
        expected = f"an integer from 0 to {_IMAGES:,}"
        fits = self.images == 0 or is_count(self.images, _IMAGES)
        refuse(fits, "multi_label", "images", self.images, expected)
        expected = "one line of at most 200 characters"
        fits = is_line(self.fingerprint, 200)
        refuse(fits, "multi_label", "fingerprint", self.fingerprint, expected)

    @classmethod
    def of(cls, labels: int) -> MultiLabel:
        """Returns the default threshold for each label."""
        return cls(thresholds=(DEFAULT,) * labels)

    def logits(self) -> tuple[float, ...]:
        """Returns the thresholds as logits; infinite ones for the thresholds 0 and 1."""
        return tuple(_logit(value) for value in self.thresholds)

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields as plain data."""
        return asdict(self)


def multi_label_from_dict(data: object) -> MultiLabel | None:
    """Returns the thresholds that plain data describe; None for None.

    Raises:
        ValueError: A key is unknown or missing, or a value is not possible.
    """
    if data is None:
        return None
    known = check_keys(MultiLabel, data, "multi_label")
    if isinstance(known.get("thresholds"), list):
        known = {**known, "thresholds": tuple(known["thresholds"])}
    return MultiLabel(**known)


def _fits(thresholds: object) -> bool:
    if not isinstance(thresholds, tuple) or not 1 <= len(thresholds) <= CLASSES:
        return False
    return all(is_number(value, 0.0, 1.0) for value in thresholds)


def _logit(share: float) -> float:
    if share in (0.0, 1.0):
        return math.inf if share else -math.inf
    return math.log(share / (1 - share))
