"""Which evaluation of a run is the best one: the metric that chooses best.safetensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Metric = Literal["auto", "top1", "balanced", "macro-f1", "mAP", "loss"]
ONE = ("top1", "balanced", "macro-f1", "loss")  # of images with one class
SEVERAL = ("mAP", "macro-f1", "loss")  # of multi-label images


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric of the validation images."""

    column: str  # its key in metrics.jsonl
    title: str  # in the middle of a sentence
    falls: bool = False  # whether a smaller value is better

    def score(self, values: Mapping[str, Any]) -> float:
        """Returns a number that is larger for a better evaluation; -inf if the value is unknown.

        On a budget an evaluation may have had no time for an image; then its loss is 0 and unknown.

        Args:
            values: A line of metrics.jsonl.
        """
        value = values.get(self.column)
        if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
            return -math.inf
        if self.falls and values.get("val_images") == 0:
            return -math.inf
        return -float(value) if self.falls else float(value)

    def text(self, value: float) -> str:
        """Formats a value: a fraction in percent, a loss with four decimals."""
        return f"{value:.4f}" if self.falls else f"{value:.2%}"


MEASURES: Mapping[Metric, Measure] = {
    "auto": Measure("val_accuracy", "top-1 accuracy"),  # until `metric_for` has chosen
    "top1": Measure("val_accuracy", "top-1 accuracy"),
    "balanced": Measure("val_balanced", "balanced accuracy"),
    "macro-f1": Measure("val_macro_f1", "macro-F1"),
    "mAP": Measure("val_map", "mAP"),
    "loss": Measure("val_loss", "validation loss", falls=True),
}


def metric_for(metric: Metric, *, multi_label: bool) -> Metric:
    """Returns the metric of a run: top1, or mAP of multi-label images, in place of auto.

    Raises:
        ValueError: The metric does not fit the images.
    """
    if metric == "auto":
        return "mAP" if multi_label else "top1"
    known = SEVERAL if multi_label else ONE
    if metric not in known:
        kind = "multi-label, so an image has no single class" if multi_label else "not multi-label"
        raise ValueError(
            f"--metric {metric}: the images are {kind}. Expected one of {', '.join(known)}. Pass "
            "one of these, or leave it out."
        )
    return metric


def measure_of(request: Mapping[str, Any]) -> Measure:
    """Returns the metric of a run; top-1 accuracy for runs of older versions.

    Args:
        request: Of settings.json.
    """
    found = next((MEASURES[name] for name in MEASURES if name == request.get("metric")), None)
    return found or MEASURES["top1"]
