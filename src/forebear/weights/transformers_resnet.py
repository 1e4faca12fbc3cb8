"""The ResNets of Hugging Face's transformers: their network and names, from config.json.

The function is torchvision's (modeling_resnet.py): epsilon 1e-5, no biases, a projection where the
channels or the stride change. `downsample_in_bottleneck` puts the stride in the first 1x1
convolution, and a bottleneck is a quarter as wide as its output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from forebear.errors import TableError
from forebear.network.plan.expand import expand
from forebear.tables.dialects import TIMM_V1, Dialect
from forebear.tables.registry import NETWORKS
from forebear.tables.rows import Block, Conv, Pool, Table
from forebear.text import truncated
from forebear.weights.choose_set import RenamedArrays
from forebear.weights.readers.base import Arrays
from forebear.weights.readers.errors import refused
from forebear.weights.readers.hub import HubConfig
from forebear.weights.variable_names import pairs

TRANSFORMERS = replace(TIMM_V1, name="transformers")
TRANSFORMERS_V1 = replace(TRANSFORMERS, name="transformers-v1", strided_conv="conv1")
_EXPECTED = "the config of a ResNet of transformers"
_MODELS = "ResNetForImageClassification, ResNetModel or ResNetBackbone"
_BACKBONE = "resnet."  # before the names of the body if there is a classifier
_WRAPPERS = ("timm_wrapper", "timm_backbone")
_SOURCE = "transformers, models/resnet/modeling_resnet.py"


def is_transformers(config: HubConfig) -> bool:
    """Whether transformers wrote a config, of a network of its own: it wraps timm's too."""
    kind = config.data.get("model_type")
    return kind is not None and kind not in _WRAPPERS and not config.pretrained_cfg


def network_of(config: HubConfig, path: Path) -> tuple[Table, Dialect]:
    """Returns the network that a config describes.

    Raises:
        WeightsError: The config is of another architecture, or a value of it is not supported.
    """
    data = config.data
    if data.get("model_type") != "resnet":
        raise refused(
            path,
            f"its config.json has model_type={truncated(data.get('model_type'))!r}",
            f"model_type='resnet': {_MODELS}",
            "Pass another model.",
        )
    if data.get("hidden_act", "relu") != "relu":
        raise refused(
            path,
            f"its config.json has hidden_act={truncated(data['hidden_act'])!r}",
            "hidden_act='relu'",
            "Pass another model.",
        )
    form = data.get("layer_type", "bottleneck")
    first = 2 if data.get("downsample_in_first_stage") is True else 1
    strided = data.get("downsample_in_bottleneck") is True and form == "bottleneck"
    try:
        widths, depths = data["hidden_sizes"], data["depths"]
        blocks = tuple(
            Block(
                f"block{number}",
                units,
                width if form == "basic" else width // 4,
                width,
                first if number == 1 else 2,
            )
            for number, (width, units) in enumerate(zip(widths, depths, strict=True), start=1)
        )
        root = (Conv("conv1", data.get("embedding_size", 64), 7, stride=2), Pool("pool1"))
        classes = config.num_classes or 1000
        table = Table("resnet", root, form, blocks, classes=classes, source=_SOURCE)
    except (KeyError, TypeError, ValueError, TableError) as error:
        what = f"its config.json has no usable depths and hidden_sizes ({truncated(error)})"
        raise refused(path, what, _EXPECTED) from error
    return replace(table, name=published_name(table)), TRANSFORMERS_V1 if strided else TRANSFORMERS


def published_name(table: Table) -> str:
    """Returns the name of timm's network of the same rows, from which these were ported."""
    for name, entry in NETWORKS.items():
        same = entry.table.blocks == table.blocks and entry.table.root == table.root
        if name.startswith("timm/resnet") and same and entry.table.form == table.form:
            return entry.table.name
    return table.name


def renamed(arrays: Arrays, table: Table, dialect: Dialect) -> Arrays:
    """Returns the arrays under the names of the dialect. Unknown names are kept."""
    plan = expand(table, dialect, num_classes=table.classes)
    whole = arrays.whole
    prefix = "" if any(name.startswith(_BACKBONE) for name in whole) else _BACKBONE
    theirs: Mapping[str, str] = {
        there.theirs: here.theirs
        for there, here in zip(pairs(plan, "transformers"), pairs(plan), strict=True)
    }
    keys: dict[str, Any] = {}
    for name in whole:
        full = name if name in theirs else f"{prefix}{name}"
        keys[theirs.get(full, name)] = name
    return RenamedArrays(whole, keys)
