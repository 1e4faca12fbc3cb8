"""The arrays of a network as the layers of a Keras model, in the order in which Keras has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from forebear.network.network import Network
from forebear.network.plan.plan import Plan
from forebear.weights.layouts import Array
from forebear.weights.variable_names import Pair, pairs

_Layer = tuple[str, str, list[tuple[str, Array]]]


def stored_arrays(network: Network) -> dict[str, Array]:
    """Returns {name in the library: array in the library's layout}, for that of the dialect."""
    state = network.state_dict()
    return {
        pair.theirs: np.asarray(pair.layout.store(state[pair.ours].cpu().numpy()), order="C")
        for pair in pairs(network.plan)
    }


def keras_layers(spelled: Plan, arrays: Mapping[str, Array]) -> list[_Layer]:
    """Returns the Keras layers in the order of the model: name, class, weights."""
    layers: dict[tuple[str, str], _Layer] = {}
    for pair in pairs(spelled):
        path, _, part = pair.ours.partition(".norm.")
        path = path.removesuffix(".weight").removesuffix(".bias").removesuffix(".conv")
        name, _, weight = pair.theirs.rpartition("/")
        key = (path, "norm" if part else "conv")
        layer = layers.setdefault(key, (name, _keras_class(pair), []))
        layer[2].append((weight, arrays[pair.theirs]))
    return [layers[key] for key in _keras_order(spelled) if key in layers]


def _keras_class(pair: Pair) -> str:
    if ".norm." in pair.ours:
        return "BatchNormalization"
    if pair.theirs.endswith("/depthwise_kernel"):
        return "DepthwiseConv2D"
    return "Dense" if pair.ours.startswith("logits.") else "Conv2D"


def _keras_order(spelled: Plan) -> Iterator[tuple[str, str]]:
    """Yields paths and parts in the order of Keras: by depth, the longer branch first.

    Files without names are loaded in this order (keras/src/models/functional.py).
    """
    old = spelled.dialect.names == "keras-old"  # adds the shortcut after the convolutions
    units = {unit.path: unit for unit in spelled.units()}
    seen = set()
    for layer in spelled.layers():
        unit = units.get(layer.path.rpartition(".")[0])
        if unit is None:
            yield from ((layer.path, "conv"), (layer.path, "norm"))
        elif unit.path not in seen:
            seen.add(unit.path)
            if unit.preact is not None:
                yield unit.preact.path, "norm"
            *before, last = unit.convs
            for conv in before:
                yield from ((conv.path, "conv"), (conv.path, "norm"))
            shortcut = f"{unit.path}.shortcut"
            ends = (last.path, shortcut) if old else (shortcut, last.path)
            for part in ("conv", "norm"):
                yield from ((path, part) for path in ends)
