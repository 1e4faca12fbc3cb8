"""The temperature of a network's logits, and the threshold below which an image is unknown."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from forebear.tables.checks import check_keys, check_words, is_count, is_line, is_number, refuse

Score = Literal["probability", "energy"]
TEMPERATURES = (1 / 64, 64.0)  # the lowest and the highest; a fit ends at one of them
UNKNOWN = "unknown"  # in place of a class
_IMAGES = 10**12
_RANGES = {
    "temperature": TEMPERATURES,
    "threshold": (-1e9, 1e9),
    "unknown_rate": (0.0, 1.0),
    "ece_before": (0.0, 1.0),
    "ece_after": (0.0, 1.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How the logits of a network become probabilities, and when an image is unknown.

    The probabilities are softmax(logits / temperature) (Guo et al. 2017, "On calibration of modern
    neural networks", section 4.2), so that the most probable class stays the same. The scores are
    defined by `forebear.engines.classifier.scores`.

    Raises:
        ValueError: A value is not possible.
    """

    temperature: float
    score: Score = "probability"
    threshold: float  # an image with a lower score is unknown
    unknown_rate: float  # share of known images that may be called unknown, 0 to 1, as asked for
    images: int  # that both were fitted on
    fingerprint: str = ""  # of the data set
    ece_before: float  # expected calibration error of softmax(logits), 0 to 1
    ece_after: float  # with the temperature, measured on images that it was not fitted on

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            expected = f"a number from {least:g} to {most:g}"
            refuse(is_number(value, least, most), "calibration", name, value, expected)
        check_words(self, "calibration")
        expected = f"an integer from 1 to {_IMAGES:,}"
        refuse(is_count(self.images, _IMAGES), "calibration", "images", self.images, expected)
        expected = "one line of at most 200 characters"
        fits = is_line(self.fingerprint, 200)
        refuse(fits, "calibration", "fingerprint", self.fingerprint, expected)

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields as plain data."""
        return asdict(self)


def calibration_from_dict(data: object) -> Calibration | None:
    """Returns the calibration that plain data describe; None for None.

    Raises:
        ValueError: A key is unknown or missing, or a value is not possible.
    """
    return None if data is None else Calibration(**check_keys(Calibration, data, "calibration"))
