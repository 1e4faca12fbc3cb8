"""A line of metrics.jsonl."""

from __future__ import annotations

from dataclasses import dataclass, fields

from forebear.text import elided
from forebear.untrusted import parse_json

_OPTIONAL = {"val_balanced", "val_macro_f1", "val_map", "val_micro_f1"}  # fields that may be None
_NEWER = {"val_images", *_OPTIONAL}  # fields that runs of older versions lack


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """Metrics from one evaluation to the next, which is usually one epoch: a line of the file."""

    epoch: float  # passes over the training images so far; with a budget perhaps not a whole number
    step: int  # steps so far
    lr: float  # learning rate of the last step
    loss: float  # mean loss of the augmented training images, nats; multi-label: sum of the labels
    accuracy: float  # top-1 accuracy on them, 0 to 1; multi-label: exact matches at 0.5
    val_loss: float  # mean loss of the validation images, nats; multi-label: sum of the labels
    val_accuracy: float  # top-1 accuracy on them, 0 to 1; multi-label: exact matches at 0.5
    images_per_second: float  # in training, without evaluations
    seconds: float  # since the start of the run, evaluations included
    skipped: int  # steps so far whose gradient was not finite
    memory: float  # MiB, the peak so far; of the GPU if there is one
    val_images: int = 0  # validation images that were evaluated; 0 in runs of older versions
    val_balanced: float | None = None  # balanced accuracy, 0 to 1; None in older runs, multi-label
    val_macro_f1: float | None = None  # mean F1 of the classes, 0 to 1; None in older runs
    val_map: float | None = None  # mAP of multi-label images, 0 to 1; None in other runs
    val_micro_f1: float | None = None  # F1 of all their labels at 0.5, 0 to 1; None in other runs
    losses: tuple[float, ...]  # the loss in up to 20 equal parts, in order
    lrs: tuple[float, ...]  # the learning rate at the end of each part

    @classmethod
    def read(cls, line: str) -> Epoch:
        """Parses a line of metrics.jsonl.

        Raises:
            ValueError: It is not JSON, or a field is missing, unknown or not a number.
        """
        data = parse_json(line)
        if not isinstance(data, dict):
            raise ValueError(f"{elided(line)} is no object")
        names = {one.name for one in fields(cls)}
        unknown, missing = data.keys() - names, names - data.keys() - _NEWER
        if unknown or missing:
            name = elided(min(unknown or missing))
            raise ValueError(f"the field {name} is {'unknown' if unknown else 'missing'}")
        for name, value in data.items():
            if value is None and name in _OPTIONAL:
                continue
            listed = value if name in ("losses", "lrs") else [value]
            if not isinstance(listed, list) or not all(map(_is_number, listed)):
                raise ValueError(f"{name}={elided(repr(value))} is no number")
        return cls(**(data | {key: tuple(data[key]) for key in ("losses", "lrs")}))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
