"""Class names of the published weights, in the order of their logits."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal, get_args

# imagenet-1001: class 0 is "background"; ImageNet's 1000 follow (TF-Slim's version 2 networks).
ClassSet = Literal["imagenet-1000", "imagenet-1001", "cifar10"]

_CIFAR10 = (  # batches.meta of the CIFAR-10 archive
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


def class_names(kind: str) -> tuple[str, ...]:
    """Returns the class names of a class set. All of them differ.

    Raises:
        ValueError: The class set is unknown.
    """
    if kind == "cifar10":
        return _CIFAR10
    if kind == "imagenet-1000":
        return tuple(_imagenet().values())
    if kind == "imagenet-1001":
        return ("background", *_imagenet().values())
    raise ValueError(
        f"kind={kind!r} is not a known class set. Expected one of "
        f"{', '.join(get_args(ClassSet))}. Pass one of these."
    )


def synset_name(synset: str) -> str | None:
    """Returns the class name of a WordNet ID such as "n01440764"; None outside ImageNet-1k."""
    return _imagenet().get(synset)


@cache
def _imagenet() -> dict[str, str]:
    """Returns {WordNet ID: class name}, in the order of the 1000 classes."""
    text = (files("forebear.tables") / "imagenet_classes.txt").read_text(encoding="utf-8")
    rows = (line.partition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {synset: name for synset, _, name in rows}
