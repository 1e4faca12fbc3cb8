"""The ResNets of KerasHub: their network, from the config.json and task.json of a preset.

The function of version 1 is torchvision's and that of version 2 is timm's, except for the momentum
of the norms (keras_hub/src/models/resnet/resnet_backbone.py). A bottleneck gives out four times its
filters. In the first stack, basic units have no projection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from forebear.errors import TableError
from forebear.tables.dialects import TIMM_PREACT, TIMM_V1, Dialect
from forebear.tables.rows import Block, Conv, Form, Pool, Table
from forebear.text import truncated
from forebear.untrusted import read_json
from forebear.weights.readers.errors import reading, refused
from forebear.weights.readers.hub import HubConfig
from forebear.weights.transformers_resnet import published_name

KERASHUB_V1 = replace(
    TIMM_V1,
    name="kerashub-v1",
    pool_fill="zero",
    norm_variance="biased",
    shortcut="first",
    init="fan-out",
    names="kerashub",
)
KERASHUB_V1_BASIC = replace(KERASHUB_V1, name="kerashub-v1-basic", shortcut="change")
KERASHUB_V2 = replace(
    TIMM_PREACT,
    name="kerashub-v2",
    norm_variance="biased",
    head="linear",
    init="fan-out",
    names="kerashub",
    preprocessing=TIMM_V1.preprocessing,
)
KERASHUB_V2_BASIC = replace(KERASHUB_V2, name="kerashub-v2-basic", shortcut="change")
_DIALECTS: dict[tuple[Form, bool], Dialect] = {
    ("bottleneck", False): KERASHUB_V1,
    ("basic", False): KERASHUB_V1_BASIC,
    ("bottleneck", True): KERASHUB_V2,
    ("basic", True): KERASHUB_V2_BASIC,
}
_FORMS: dict[str, Form] = {"basic_block": "basic", "bottleneck_block": "bottleneck"}
_EXPECTED = "the preset of a ResNet of KerasHub"
_SOURCE = "keras_hub, models/resnet/resnet_backbone.py"
_TASK = "task.json"


def is_kerashub(config: HubConfig) -> bool:
    """Whether KerasHub wrote a config."""
    return str(config.data.get("registered_name", "")).startswith("keras_hub>")


def preset_network(config: HubConfig, path: Path) -> tuple[Table, Dialect]:
    """Returns the network that a preset describes.

    Raises:
        WeightsError: The preset is of another architecture, or a value of it is not supported.
    """
    kind = config.data.get("class_name")
    if kind != "ResNetBackbone":
        raise refused(
            path,
            f"its config.json has class_name={truncated(kind)!r}",
            "class_name='ResNetBackbone'",
            "Pass another preset.",
        )
    data = config.data.get("config")
    data = data if isinstance(data, Mapping) else {}
    return network_of_backbone(data, _task(path), path)


def network_of_backbone(
    data: Mapping[str, Any], task: Mapping[str, Any], path: Path
) -> tuple[Table, Dialect]:
    """Returns the network of a ResNetBackbone's config and an ImageClassifier's.

    Args:
        data: The arguments of the backbone.
        task: The arguments of the classifier; empty if the preset has none.
        path: Named in errors.

    Raises:
        WeightsError: A value is not supported.
    """
    form = _form(data, path)
    if task.get("pooling", "avg") != "avg":
        raise refused(
            path,
            f"its {_TASK} has pooling={truncated(task['pooling'])!r}",
            "pooling='avg'",
            "Pass another preset.",
        )
    try:
        table = Table(
            "resnet",
            _root(data),
            form,
            _blocks(data, form),
            classes=task.get("num_classes", 1000),
            source=_SOURCE,
        )
    except (KeyError, TypeError, ValueError, TableError) as error:
        what = f"its config.json has no usable stacks ({truncated(error)})"
        raise refused(path, what, _EXPECTED) from error
    table = replace(table, name=published_name(table))
    return table, _DIALECTS[form, data.get("use_pre_activation") is True]


def _form(data: Mapping[str, Any], path: Path) -> Form:
    """Returns the form of the units."""
    kind = str(data.get("block_type"))
    if kind in _FORMS:
        return _FORMS[kind]
    remedy = "Pass another preset."
    if kind.endswith("_vd"):
        remedy = (
            "This is a ResNet-vd: three 3x3 convolutions in the root, and an average pool before "
            "the projections. forebear has no such network. Pass another preset."
        )
    what = f"its config.json has block_type={truncated(kind)!r}"
    raise refused(path, what, f"one of {', '.join(_FORMS)}", remedy)


def _task(folder: Path) -> Mapping[str, Any]:
    """Returns the settings of the classifier; an empty mapping if the preset has none."""
    path = folder / _TASK
    if not path.is_file():
        return {}
    with reading(path, "the task of a KerasHub preset"):
        data = read_json(path)
        if not isinstance(data, dict) or not isinstance(data.get("config"), dict):
            raise ValueError("it holds no object with a config")
        config: Mapping[str, Any] = data["config"]
        return config


def _root(data: Mapping[str, Any]) -> tuple[Conv | Pool, ...]:
    (channels,), (kernel,) = data["input_conv_filters"], data["input_conv_kernel_sizes"]
    return Conv("conv1", channels, kernel, stride=2), Pool("pool1")


def _blocks(data: Mapping[str, Any], form: Form) -> tuple[Block, ...]:
    lists = (data[f"stackwise_num_{name}"] for name in ("filters", "blocks", "strides"))
    return tuple(
        Block(f"block{number}", units, width, width if form == "basic" else 4 * width, stride)
        for number, (width, units, stride) in enumerate(zip(*lists, strict=True), start=1)
    )
