"""Writes a folder that Hugging Face's transformers loads as a ResNet, with its preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forebear.errors import WeightsError
from forebear.network.describe.equivalence import same_function
from forebear.network.network import Network
from forebear.network.plan.expand import expand
from forebear.network.plan.plan import Plan
from forebear.tables.preprocessing import Preprocessing
from forebear.tables.rows import Conv
from forebear.weights.readers.hub import HubConfig
from forebear.weights.transfer import held_by
from forebear.weights.transformers_resnet import network_of
from forebear.weights.variable_names import pairs
from forebear.weights.writers.hub_folder import write_folder

_RESAMPLING = {"nearest": 0, "bilinear": 2, "bicubic": 3}  # Pillow's numbers
_BACKBONE = "resnet."  # before the names of the body if there is a classifier


def write_transformers(folder: Path, network: Network, *, replace: bool = False) -> int:
    """Writes a network for `AutoModelForImageClassification`, and returns its number of arrays.

    config.json is written last, so that an interrupted write leaves no folder that loads.

    Raises:
        WeightsError: The layout cannot hold the network or its preprocessing; the message says
            why. Or a file exists and `replace` is not set, or it cannot be written.
    """
    config = _config(network)
    held = _held(network, config)
    processor = _processor(network.preprocessing)
    state = held.state_dict()
    prefix = "" if held.plan.num_classes else _BACKBONE
    arrays = {
        pair.theirs.removeprefix(prefix): state[pair.ours].cpu().numpy()
        for pair in pairs(held.plan, "transformers")
    }
    files = {"preprocessor_config.json": processor, "config.json": config}
    return write_folder(folder, arrays, files, replace=replace)


def _refused(
    why: str, remedy: str = "Pass --to forebear, which holds every network."
) -> WeightsError:
    return WeightsError(
        f"to='transformers': {why}. Expected a network that ResNetForImageClassification computes "
        f"exactly. {remedy}"
    )


def _config(network: Network) -> dict[str, Any]:
    """Returns config.json: the library's settings that come nearest to a network."""
    plan = network.plan
    table = plan.table
    if not table.blocks:
        raise _refused(f"{table.name} has no residual blocks")
    classes = network.classes or [f"LABEL_{number}" for number in range(plan.num_classes or 0)]
    labels = {str(number): name for number, name in enumerate(classes)}
    kind = "ResNetForImageClassification" if plan.num_classes else "ResNetModel"
    strided = network.dialect.strided_conv == "conv1" and table.form == "bottleneck"
    return {
        "architectures": [kind],
        "model_type": "resnet",
        "layer_type": table.form,
        "hidden_act": "relu",
        "num_channels": plan.in_channels,
        "embedding_size": next((row.channels for row in table.root if isinstance(row, Conv)), 1),
        "hidden_sizes": [block.channels for block in table.blocks],
        "depths": [block.units for block in table.blocks],
        "downsample_in_first_stage": table.blocks[0].stride == 2,
        "downsample_in_bottleneck": strided,
        "dtype": "float32",
        "id2label": labels,
        "label2id": {name: int(number) for number, name in labels.items()},
    }


def _held(network: Network, config: Mapping[str, Any]) -> Network:
    """Returns the library's network with the weights of another one.

    Raises:
        WeightsError: It computes another function.
    """
    plan = network.plan
    spelled = _spelled(config, plan)
    verdict = same_function(plan, spelled)
    if verdict.answer != "same":
        why = "; ".join(verdict.reasons)
        raise _refused(f"{plan.table.name} in dialect {plan.dialect.name} differs there: {why}")
    return held_by(spelled, network)


def _spelled(config: Mapping[str, Any], plan: Plan) -> Plan:
    """Returns the plan of the network that a config describes."""
    given = HubConfig(
        architecture=None, num_classes=plan.num_classes, pretrained_cfg={}, data=config
    )
    table, dialect = network_of(given, Path("config.json"))
    return expand(table, dialect, num_classes=plan.num_classes, in_channels=plan.in_channels)


def _processor(rule: Preprocessing) -> dict[str, Any]:
    """Returns preprocessor_config.json.

    The library rounds the offset of a centre crop down, and torchvision rounds it half to even: the
    crops can be one pixel apart (transformers, image_transforms.py, center_crop).

    Raises:
        WeightsError: The library has no such preprocessing.
    """
    if rule.order != "RGB":
        remedy = "Pass --rewrite input too, which folds the order into the first convolution."
        if rule.order == "L":
            remedy = "Pass --to forebear."
        raise _refused(f"its images have the channel order {rule.order}", remedy)
    if rule.interpolation not in _RESAMPLING or rule.resize not in ("shorter", "square"):
        how = f"resize={rule.resize!r} and interpolation={rule.interpolation!r}"
        raise _refused(f"the preprocessing has {how}, which its image processors lack")
    square = {"height": rule.size, "width": rule.size}
    shorter = rule.resize == "shorter"
    return {
        "image_processor_type": "CLIPImageProcessor" if shorter else "ViTImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": rule.side} if shorter else square,
        "resample": _RESAMPLING[rule.interpolation],
        "do_center_crop": shorter,
        **({"crop_size": square} if shorter else {}),
        "do_rescale": True,
        "rescale_factor": rule.scale,
        "do_normalize": True,
        "image_mean": list(rule.mean),
        "image_std": list(rule.std),
    }
