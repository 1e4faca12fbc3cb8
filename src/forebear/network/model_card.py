"""Metadata of a network's weights: class names, preprocessing, metrics and provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forebear.limits import CLASS_NAME, CLASSES, NESTING
from forebear.network.calibration import Calibration
from forebear.network.multi_label import MultiLabel
from forebear.tables.checks import refuse, shown
from forebear.tables.preprocessing import Preprocessing

NOTES = "notes"  # in the provenance: what was taken from the file, and what was left


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Metadata that a checkpoint stores with its arrays.

    A new network has the preprocessing of its dialect, and no other metadata.

    Raises:
        ValueError: Class names are empty, too long or not unique, or the metrics or the provenance
            cannot be written as JSON.
    """

    preprocessing: Preprocessing
    classes: tuple[str, ...] = ()  # in the order of the logits; empty if they are unknown
    metrics: Mapping[str, Any] = field(default_factory=dict)  # measured values, with their units
    provenance: Mapping[str, str] = field(default_factory=dict)  # source file, its SHA-256, licence
    calibration: Calibration | None = None  # of the logits, if it was fitted
    multi_label: MultiLabel | None = None  # if images can have several labels, or none

    def __post_init__(self) -> None:
        fits = isinstance(self.preprocessing, Preprocessing)
        refuse(fits, "card", "preprocessing", self.preprocessing, "a Preprocessing")
        _check_classes(self.classes)
        fits = self.calibration is None or isinstance(self.calibration, Calibration)
        refuse(fits, "card", "calibration", self.calibration, "a Calibration or None")
        fits = self.multi_label is None or isinstance(self.multi_label, MultiLabel)
        refuse(fits, "card", "multi_label", self.multi_label, "a MultiLabel or None")
        if self.multi_label is not None:
            fits = self.calibration is None  # a temperature is that of a softmax
            refuse(fits, "card", "calibration", self.calibration, "None if it is multi-label")
        for name in ("metrics", "provenance"):
            value = getattr(self, name)
            fits = isinstance(value, Mapping) and _is_plain(value, NESTING)
            expected = "a mapping of names to numbers, strings, lists and mappings"
            refuse(fits, "card", name, value, expected)

    def require_logits(self, count: int | None) -> None:
        """Checks that there is one class name for each logit, or none, and one threshold.

        Raises:
            ValueError: The numbers differ.
        """
        if self.classes and count != len(self.classes):
            raise ValueError(
                f"{len(self.classes)} class names for {count} logits: expected one name for each "
                "logit. Pass as many names as there are logits, or none."
            )
        if self.multi_label is not None and count != len(self.multi_label.thresholds):
            raise ValueError(
                f"{len(self.multi_label.thresholds)} thresholds for {count} logits: expected one "
                "threshold for each logit. Pass as many thresholds as there are logits."
            )


def _check_classes(classes: object) -> None:
    if not isinstance(classes, tuple) or len(classes) > CLASSES:
        what = f"{len(classes):,} names" if isinstance(classes, tuple) else shown(classes)
        raise ValueError(
            f"classes: {what}. Expected at most {CLASSES:,} names in a tuple. Correct the classes."
        )
    seen: dict[str, int] = {}
    for number, name in enumerate(classes):
        if not _is_name(name):
            raise ValueError(
                f"classes: class {number} is {shown(name)}. Expected a name of 1 to {CLASS_NAME:,} "
                "characters that UTF-8 can encode. Rename this class."
            )
        if name in seen:
            raise ValueError(
                f"classes: classes {seen[name]} and {number} have the same name, {shown(name)}. "
                "Expected names that differ. Rename one of them."
            )
        seen[name] = number


def _is_name(name: object) -> bool:
    if not isinstance(name, str) or not 1 <= len(name) <= CLASS_NAME:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _is_plain(value: object, levels: int) -> bool:
    """Whether JSON can hold a value, nested at most `levels` deep."""
    if isinstance(value, Mapping):
        keys, inner = value.keys(), value.values()
        whole = all(isinstance(key, str) for key in keys)
        return levels > 0 and whole and all(_is_plain(one, levels - 1) for one in inner)
    if isinstance(value, list | tuple):
        return levels > 0 and all(_is_plain(one, levels - 1) for one in value)
    return value is None or isinstance(value, str | int | float)
