"""Writes a folder that timm loads: `timm.create_model("local-dir:FOLDER", pretrained=True)`.

Its config.json has the form of timm/models/_hub.py, save_config_for_hf. timm's data transforms are
those of timm/data/transforms_factory.py, transforms_imagenet_eval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from forebear.errors import WeightsError
from forebear.network.network import Network
from forebear.tables.preprocessing import Preprocessing
from forebear.weights.writers.hub_folder import write_folder

_INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


def write_timm(
    folder: Path,
    architecture: str,
    network: Network,
    arrays: Mapping[str, NDArray[Any]],
    *,
    replace: bool = False,
) -> int:
    """Writes a network for `timm.create_model`, and returns its number of arrays.

    config.json is written last, so that an interrupted write leaves no folder that loads.

    Args:
        folder: Made here if it is missing.
        architecture: timm's name of the network, such as "resnet50".
        network: Gives the classes and the preprocessing.
        arrays: The weights under timm's names, in its layouts.
        replace: Whether existing files may be overwritten.

    Raises:
        WeightsError: timm has no such preprocessing; the message says why. Or a file exists and
            `replace` is not set, or it cannot be written.
    """
    plan, classes = network.plan, network.classes
    config: dict[str, Any] = {
        "architecture": architecture,
        "num_classes": plan.num_classes or 0,
        "num_features": plan.table.blocks[-1].channels if plan.table.blocks else None,
        "global_pool": "avg",
        "pretrained_cfg": _pretrained_cfg(network.preprocessing, plan.num_classes or 0),
    }
    if plan.in_channels != 3:
        config["model_args"] = {"in_chans": plan.in_channels}
    if classes:
        config["label_names"] = list(classes)
    return write_folder(folder, arrays, {"config.json": config}, replace=replace)


def _refused(why: str, remedy: str) -> WeightsError:
    return WeightsError(
        f"to='timm': {why}. Expected a preprocessing that timm's data transforms can express. "
        f"{remedy}"
    )


def _pretrained_cfg(rule: Preprocessing, classes: int) -> dict[str, Any]:
    """Returns the part of config.json that gives the preprocessing.

    timm divides pixels by 255, so the mean and the standard deviation are scaled to that.

    Raises:
        WeightsError: timm has no such preprocessing.
    """
    elsewhere = "Pass a file such as NAME.pth, which has no preprocessing, or --to forebear."
    if rule.order not in ("RGB", "L"):
        remedy = "Pass --rewrite input too, which folds the order into the first convolution."
        raise _refused(f"its images have the channel order {rule.order}", remedy)
    height, width = rule.shape
    squash = rule.resize == "square"
    if (
        rule.interpolation not in _INTERPOLATIONS
        or not (squash or rule.resize == "shorter")
        or height != width
        or rule.scale < 0
        or rule.levels is not None
    ):
        how = (
            f"resize={rule.resize!r}, interpolation={rule.interpolation!r}, an input of "
            f"{height}x{width} pixels and scale={rule.scale:g}"
        )
        raise _refused(f"the preprocessing has {how}, which timm lacks", elsewhere)
    unit = 255 * rule.scale
    return {
        "num_classes": classes,
        "input_size": [rule.channels, height, width],
        "interpolation": rule.interpolation,
        "crop_pct": 1.0 if squash else _share(height, rule.side),
        "crop_mode": "squash" if squash else "center",
        "mean": [one / unit for one in rule.mean],
        "std": [one / unit for one in rule.std],
    }


def _share(size: int, side: int) -> float:
    """Returns the share of the resized side that is cropped, so that floor(size / share) = side."""
    share = size / side
    return share if math.floor(size / share) == side else size / (side + 0.5)
