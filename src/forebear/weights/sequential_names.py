"""Gives the layers of a ResNet their names back after a program put them into an nn.Sequential.

`nn.Sequential(*list(resnet.children())[:-2])` is the usual way to cut off a head, also in fastai.
The layers of torchvision's class are then called by their places. The ReLU, the pools and a Flatten
have places too, and no arrays.
"""

from __future__ import annotations

from collections.abc import Mapping

_NAMES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
_FIRST_UNIT = "4.0.conv1.weight"
_ROOT = ("0.weight", "1.running_mean")


def with_names(plain: Mapping[str, str]) -> dict[str, str]:
    """Returns {name: name in the file} with torchvision's names in place of places.

    Args:
        plain: The same, as of `find_sets.plain_names`.
    """
    starts = [name.removesuffix(_FIRST_UNIT) for name in plain if name.endswith(_FIRST_UNIT)]
    prefixes = [
        start
        for start in sorted(starts, key=len, reverse=True)
        if start[-1:] in ("", ".") and {start + name for name in _ROOT} <= plain.keys()
    ]
    return {_named(name, prefixes): key for name, key in plain.items()}


def _named(name: str, prefixes: list[str]) -> str:
    prefix = next((one for one in prefixes if name.startswith(one)), None)
    if prefix is None:
        return name
    place, dot, rest = name.removeprefix(prefix).partition(".")
    return f"{prefix}{_NAMES.get(place, place)}{dot}{rest}"
