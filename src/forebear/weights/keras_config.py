"""What the model_config of a Keras file says about a network that is known by its names.

Names tell the convolutions and norms of a network of Keras Applications. They do not tell what
a program put before and after them: layers that scale the image, and the pool before the logits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from forebear.tables.dialects import Dialect
from forebear.tables.preprocessing import Preprocessing
from forebear.text import truncated
from forebear.untrusted import parse_json
from forebear.weights.hub_facts import Facts
from forebear.weights.readers.base import Arrays
from forebear.weights.readers.errors import reading, refused

_MAX_POOLS = ("GlobalMaxPooling2D", "GlobalMaxPool2D")
# Layers of the networks themselves, and layers that do nothing in evaluation.
_KNOWN = frozenset((
    "InputLayer", "Conv2D", "BatchNormalization", "Activation", "ReLU", "Add",
    "ZeroPadding2D", "MaxPooling2D", "Dense", "Softmax",
    "GlobalAveragePooling2D", "AveragePooling2D", "Flatten", "Functional", "Model", "Sequential",
    "Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "ActivityRegularization",
    "Rescaling",
))  # fmt: skip
_GROUPED = frozenset(("DepthwiseConv2D", "Reshape", "Lambda", "Concatenate"))  # of ResNeXt
_OTHER_SCALE = (
    "its Rescaling layers cannot be expressed as a preprocessing: images are preprocessed as for "
    "Keras' networks"
)
_RANDOM = "Random"  # RandomFlip and others augment images in training only
_CLOSE = 1e-3  # of two epsilons: 1.001e-5 is not 1e-5
_SHOWN = 4  # names of layers in a note


def config_facts(arrays: Mapping[str, Any], used: Mapping[str, str], dialect: Dialect) -> Facts:
    """Returns the preprocessing in the configuration, and notes about layers that are left out.

    Args:
        arrays: All arrays of the file.
        used: The names in the file of the arrays that the network takes, by their own names.
        dialect: Of the network.

    Raises:
        WeightsError: The configuration contradicts the network that has these names.
    """
    if not isinstance(arrays, Arrays) or not arrays.model_config:
        return Facts()
    with reading(arrays.path, "a model_config in JSON", "model_config"):
        layers = [*_layers(parse_json(arrays.model_config))]
    norms = {key.rpartition("/")[0].rpartition("/")[2] for key in used.values()}
    for kind, name, config in layers:
        epsilon = config.get("epsilon")
        what = ""
        if kind in _MAX_POOLS:
            what = f"{truncated(name)} is a {kind}"
        elif kind == "BatchNormalization" and name in norms and not _is_close(epsilon, dialect):
            what = f"{truncated(name)} has epsilon={truncated(epsilon)}"
        if what:
            expected = (
                f"a network of dialect {dialect.name}: it pools by the average, and its norms"
            )
            raise refused(
                arrays.path,
                f"its model_config contradicts its names: {what}",
                f"{expected} have epsilon={dialect.norm_eps:g}",
                "Run it with Keras.",
            )
    scaled = [config for kind, _, config in layers if kind == "Rescaling"]
    rule = _rescaled(scaled[0], dialect) if len(scaled) == 1 else None
    notes = (*_left_out(layers), *([_OTHER_SCALE] if scaled and rule is None else []))
    return Facts(preprocessing=rule, notes=notes)


def _layers(model: Any) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yields class, name and settings of each layer, those of nested models included."""
    settings = model.get("config") if isinstance(model, dict) else None
    listed = settings.get("layers") if isinstance(settings, dict) else settings
    for layer in listed if isinstance(listed, list) else []:
        inner = layer.get("config") if isinstance(layer, dict) else None
        if isinstance(inner, dict):
            yield str(layer.get("class_name")), str(inner.get("name")), inner
            yield from _layers(layer)


def _is_close(epsilon: object, dialect: Dialect) -> bool:
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float):
        return True  # a configuration that leaves it out
    return math.isclose(epsilon, dialect.norm_eps, rel_tol=_CLOSE)


def _rescaled(config: Mapping[str, Any], dialect: Dialect) -> Preprocessing | None:
    """Returns the preprocessing by a Rescaling layer; None if it cannot be expressed."""
    offset = config.get("offset", 0)
    try:
        scale = float(config["scale"])
        mean = tuple(0.0 - one for one in (offset if isinstance(offset, list) else [offset] * 3))
        return replace(dialect.preprocessing, order="RGB", scale=scale, mean=mean, std=(1.0,) * 3)
    except (KeyError, TypeError, ValueError):
        return None


def _left_out(layers: list[tuple[str, str, Mapping[str, Any]]]) -> Iterator[str]:
    """Yields a note about layers that are no part of the network and do not scale the image."""
    grouped = any(kind == "DepthwiseConv2D" for kind, _, _ in layers)
    known = _KNOWN | _GROUPED if grouped else _KNOWN
    others = [
        f"{truncated(name, 40)} ({truncated(kind, 40)})"
        for kind, name, _ in layers
        if kind not in known and not kind.startswith(_RANDOM)
    ]
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        yield (
            f"layers of its model_config that forebear leaves out: {', '.join(others[:_SHOWN])}"
            f"{more}; images are preprocessed by forebear"
        )
