"""What trackers get, and under which names: the same for all of them.

Without imports of a tracker or of torch, so that command lines can use it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from forebear.errors import near_misses
from forebear.text import elided, one_line

TRACKERS = ("tensorboard", "mlflow", "wandb", "trackio")
PROJECT = "forebear"  # the project or experiment of the runs

EPOCH = {  # key of metrics.jsonl to the chart and the line in it
    "loss": "loss/training",
    "val_loss": "loss/validation",
    "accuracy": "accuracy/training",
    "val_accuracy": "accuracy/validation",
    "val_balanced": "accuracy/validation balanced",
    "val_macro_f1": "F1/validation mean of the classes",
    "val_micro_f1": "F1/validation all labels",
    "val_map": "mAP/validation",
    "lr": "run/learning rate",
    "images_per_second": "run/images per second",
    "memory": "run/memory in MiB",
    "skipped": "run/steps skipped",
    "epoch": "run/epoch",
}
FINAL = {  # metric of the final weights to its name
    "held_out_accuracy": "final/validation accuracy",
    "held_out_top5": "final/validation top-5 accuracy",
    "held_out_mAP": "final/validation mAP",
    "held_out_loss": "final/validation loss",
    "test_accuracy": "final/test accuracy",
    "test_mAP": "final/test mAP",
    "seconds": "final/seconds",
}
_GROUPS = ("network", "weights", "data", "recipe", "request", "machine", "versions")
_LONGEST = 500  # characters of a value: what every release of MLflow takes


def parse_trackers(text: str | None) -> tuple[str, ...]:
    """Returns the trackers that are named, separated by commas, each once and in this order.

    Raises:
        ValueError: A name is unknown or empty.
    """
    if text is None:
        return ()
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in TRACKERS:
            raise ValueError(
                f"track={elided(repr(text))}: {elided(repr(name))} is no tracker."
                f"{near_misses(name, TRACKERS)} Expected one or more of {', '.join(TRACKERS)}. "
                "Separate several by commas, or leave it out."
            )
    return names


def points(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, float]:
    """Returns the values that are finite numbers, under the names that trackers get.

    Args:
        values: By key; those without a name are left out.
        names: `EPOCH` or `FINAL`.
    """
    return {
        name: float(values[key])
        for key, name in names.items()
        if isinstance(values.get(key), int | float) and math.isfinite(values[key])
    }


def flat(settings: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Returns the settings of a run by dotted names: {"recipe.lr": 0.1, "data.train": 1438}.

    Lists, such as the class names, and values that are None are left out.

    Args:
        settings: Those of settings.json.
    """
    groups = {name: settings[name] for name in _GROUPS if name in settings}
    return dict(_flat("", groups))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str | int | float | bool]]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), one)
    elif isinstance(value, bool | int | float):
        yield prefix, value
    elif isinstance(value, str):
        yield prefix, one_line(value)[:_LONGEST]
