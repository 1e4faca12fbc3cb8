"""Writes a preset that KerasHub loads: `keras_hub.models.ImageClassifier.from_preset(folder)`.

The files are those of Task.save_to_preset (keras_hub/src/utils/preset_utils.py, KerasPresetSaver):
the backbone and the classifier have their weights in separate files.
"""

from __future__ import annotations

import logging
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
from forebear.text import truncated
from forebear.weights.kerashub_resnet import network_of_backbone
from forebear.weights.transfer import held_by
from forebear.weights.writers.hub_folder import make_folder, write_objects
from forebear.weights.writers.keras import write_keras
from forebear.weights.writers.keras_model import keras_layers, stored_arrays

_log = logging.getLogger(__name__)

_HEAD = "predictions"  # the layer of the classifier
_WIDTH = 64  # resnet_backbone.py accepts no other first value of stackwise_num_filters
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
_MODULE = "keras_hub.src.models.resnet."
_POLICY = {
    "module": "keras",
    "class_name": "DTypePolicy",
    "config": {"name": "float32"},
    "registered_name": None,
}
_Object = dict[str, Any]


def write_kerashub(folder: Path, network: Network, *, replace: bool = False) -> int:
    """Writes a network for `ImageClassifier.from_preset`, and returns its number of arrays.

    A network without logits becomes a preset for `ResNetBackbone.from_preset`. config.json is
    written last, so that an interrupted write leaves no folder that loads. A preset stores no names
    of classes. If KerasHub's image converter cannot express the preprocessing, the preset has none,
    and a warning says so.

    Args:
        folder: Made here if it is missing.
        network: Gives the weights, the number of classes and the preprocessing.
        replace: Whether existing files may be overwritten.

    Raises:
        WeightsError: ResNetBackbone does not compute this function; the message says why. Or h5py
            is missing, a file exists and `replace` is not set, or it cannot be written.
    """
    settings = _settings(network.plan)
    held = _held(network, settings)
    converter = _converter(folder, network.preprocessing)
    arrays = stored_arrays(held)
    layers = keras_layers(held.plan, arrays)
    make_folder(folder)
    body = [layer for layer in layers if layer[0] != _HEAD]
    write_keras(folder / "model.weights.h5", body, replace=replace)
    backbone = _object("ResNetBackbone", _MODULE + "resnet_backbone", settings)
    files: dict[str, _Object] = {"metadata.json": _metadata(body)}
    if held.plan.num_classes:
        head = [layer for layer in layers if layer[0] == _HEAD]
        write_keras(folder / "task.weights.h5", head, replace=replace)
        preprocessor = _preprocessor(converter)
        files["task.json"] = _task(backbone, preprocessor, held.plan.num_classes)
        if preprocessor:
            files["preprocessor.json"] = preprocessor
    if converter:
        files["image_converter.json"] = converter
    write_objects(folder, {**files, "config.json": backbone}, replace=replace)
    return len(arrays)


def _refused(why: str) -> WeightsError:
    return WeightsError(
        f"to='kerashub': {why}. Expected a network that KerasHub's ResNetBackbone computes "
        "exactly. Pass --to forebear, which holds every network."
    )


def _settings(plan: Plan) -> _Object:
    """Returns the arguments of the ResNetBackbone that comes nearest to a network.

    Raises:
        WeightsError: The network has no blocks, or a first block that the backbone does not accept.
    """
    table, convs = plan.table, [row for row in plan.table.root if isinstance(row, Conv)]
    if not table.blocks or len(convs) != 1:
        raise _refused(f"{table.name} has no residual blocks after one convolution")
    if table.blocks[0].width != _WIDTH:
        width = table.blocks[0].width
        raise _refused(
            f"the first block of {table.name} has the width {width}, and the backbone accepts "
            f"{_WIDTH} only"
        )
    return {
        "name": "res_net_backbone",
        "trainable": True,
        "dtype": _POLICY,
        "input_conv_filters": [convs[0].channels],
        "input_conv_kernel_sizes": [convs[0].kernel],
        "stackwise_num_filters": [block.width for block in table.blocks],
        "stackwise_num_blocks": [block.units for block in table.blocks],
        "stackwise_num_strides": [block.stride for block in table.blocks],
        "block_type": f"{table.form}_block",
        "use_pre_activation": plan.dialect.order == "pre",
        "image_shape": [None, None, plan.in_channels],
    }


def _held(network: Network, settings: Mapping[str, Any]) -> Network:
    """Returns the backbone's network with the weights of another one.

    Raises:
        WeightsError: It computes another function.
    """
    plan = network.plan
    table, dialect = network_of_backbone(settings, {}, Path("config.json"))
    spelled = expand(table, dialect, num_classes=plan.num_classes, in_channels=plan.in_channels)
    verdict = same_function(plan, spelled)
    reasons = verdict.reasons if verdict.answer != "same" else _other_projections(spelled)
    if reasons:
        why = "; ".join(reasons)
        raise _refused(f"{plan.table.name} in dialect {plan.dialect.name} differs there: {why}")
    return held_by(spelled, network)


def _other_projections(spelled: Plan) -> tuple[str, ...]:
    """Returns the reason if KerasHub has a projection in other units (resnet_backbone.py).

    Each stack starts with one, except for the first stack of basic units.
    """
    table = spelled.table
    wanted = [
        place == 0 and (number > 0 or table.form != "basic")
        for number, block in enumerate(table.blocks)
        for place in range(block.units)
    ]
    shortcuts = [unit.shortcut for unit in spelled.units()]
    if [layer is not None and layer.kind == "conv" for layer in shortcuts] == wanted:
        return ()
    return ("its projections are in other units than KerasHub's",)


def _converter(folder: Path, rule: Preprocessing) -> _Object | None:
    """Returns image_converter.json; None, after a warning, if it cannot express a preprocessing."""
    why = _inexpressible(rule)
    if why:
        _log.warning(
            "%s: KerasHub's image converter cannot express the preprocessing (%s). The preset has "
            "no preprocessor. Pass images that are preprocessed as `forebear describe` says.",
            truncated(folder),
            why,
        )
        return None
    config = {
        "name": "res_net_image_converter",
        "trainable": True,
        "dtype": _POLICY,
        "image_size": [rule.size, rule.size],
        "scale": [rule.scale / std for std in rule.std],
        "offset": [-mean / std for mean, std in zip(rule.mean, rule.std, strict=True)],
        "interpolation": rule.interpolation,
        "antialias": rule.interpolation != "nearest",
        "crop_to_aspect_ratio": rule.resize == "shorter",
        "pad_to_aspect_ratio": False,
        "bounding_box_format": "yxyx",
    }
    return _object("ResNetImageConverter", _MODULE + "resnet_image_converter", config)


def _inexpressible(rule: Preprocessing) -> str:
    """Returns what an image converter cannot express of a preprocessing; empty if nothing.

    It takes the largest crop in the middle that has the ratio of the input, and resizes it
    (keras_hub/src/layers/preprocessing/image_converter.py).
    """
    if rule.order != "RGB":
        return f"its channel order is {rule.order}"
    if rule.interpolation not in _INTERPOLATIONS:
        return f"its interpolation is {rule.interpolation}"
    if rule.resize not in ("shorter", "square"):
        return f"it has resize={rule.resize!r}"
    if rule.side != rule.size:
        return f"it resizes the shorter side to {rule.side} pixels and crops {rule.size}"
    height, width = rule.shape
    return f"its input has {height}x{width} pixels" if height != width else ""


def _object(name: str, module: str, config: Mapping[str, Any]) -> _Object:
    """Returns an object in the form of keras.saving.serialize_keras_object."""
    return {
        "module": module,
        "class_name": name,
        "config": config,
        "registered_name": f"keras_hub>{name}",
    }


def _preprocessor(converter: _Object | None) -> _Object | None:
    if converter is None:
        return None
    config = {
        "name": "res_net_image_classifier_preprocessor",
        "trainable": True,
        "dtype": _POLICY,
        "image_converter": converter,
        "config_file": "preprocessor.json",
    }
    name = "ResNetImageClassifierPreprocessor"
    return _object(name, _MODULE + "resnet_image_classifier_preprocessor", config)


def _task(backbone: _Object, preprocessor: _Object | None, classes: int) -> _Object:
    config = {
        "backbone": backbone,
        "preprocessor": preprocessor,
        "name": "res_net_image_classifier",
        "num_classes": classes,
        "pooling": "avg",
        "activation": None,
        "dropout": 0.0,
    }
    return _object("ResNetImageClassifier", _MODULE + "resnet_image_classifier", config)


def _metadata(body: Any) -> _Object:
    """Returns metadata.json, which KerasHub does not read when it loads a preset."""
    values = sum(array.size for _, _, weights in body for _, array in weights)
    return {"parameter_count": values, "tasks": ["ImageClassifier"]}
