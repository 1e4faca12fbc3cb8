"""The layers of a functional Keras model, from the JSON of its configuration, and their chains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from forebear.text import truncated
from forebear.untrusted import parse_json


class NoNetworkError(Exception):
    """A graph is not one of forebear's networks; the message says where."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a graph."""

    name: str
    kind: str  # its class
    config: Mapping[str, Any]
    inputs: tuple[str, ...]

    def one(self, key: str, default: Any = None) -> Any:
        """Returns a value, or the value of both axes if they are equal."""
        value = self.config.get(key, default)
        if isinstance(value, list):
            if len(set(map(str, value))) != 1:
                raise NoNetworkError(f"{self.name} has {key}={truncated(value)}")
            value = value[0]
        return value


def layers_of(config: str | bytes | None) -> dict[str, Layer]:
    """Returns the layers of a functional model, in its order."""
    model = _plain(parse_json(config)) if config else None
    if not isinstance(model, dict) or model.get("class_name") not in ("Functional", "Model"):
        raise NoNetworkError("the file has no functional model")
    found = {}
    for given in model["config"]["layers"]:
        name, settings = given["config"]["name"], given["config"]
        inputs = tuple(_inputs(given.get("inbound_nodes")))
        found[name] = Layer(name, given["class_name"], settings, inputs)
        if settings.get("data_format", "channels_last") != "channels_last":
            raise NoNetworkError(f"{name} has data_format={truncated(settings['data_format'])!r}")
    return found


def _plain(value: Any) -> Any:
    """Returns a value of JSON in which tuples, which a SavedModel of Keras marks, are lists."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        if value.get("class_name") == "__tuple__":
            return _plain(value.get("items"))
        return {key: _plain(one) for key, one in value.items()}
    return value


def _inputs(node: Any) -> Iterator[str]:
    """Yields the layers that a node takes its tensors from, as Keras 2 and 3 write it."""
    if isinstance(node, list):
        if len(node) >= 3 and isinstance(node[0], str) and isinstance(node[1], int):
            yield node[0]
        else:
            for one in node:
                yield from _inputs(one)
    elif isinstance(node, dict):
        yield from _inputs(node.get("args") or node.get("config", {}).get("keras_history"))


def chain_to(
    name: str, layers: Mapping[str, Layer], seen: set[str], end: str | None
) -> list[Layer]:
    """Returns the layers that lead to one, first to last.

    Args:
        name: The last layer.
        layers: All layers.
        seen: The names of the chain's layers are added to it.
        end: The layer before the chain; None for a chain from the model's input.

    Raises:
        NoNetworkError: The chain branches or loops, or it starts from another layer.
    """
    chain: list[Layer] = []
    while name != end:
        layer = layers[name]
        if layer.kind == "Add" and end is None:
            raise NoNetworkError(f"{name} is not in the chain of units")
        chain.append(layer)
        if len(chain) > len(layers):
            raise NoNetworkError(f"{name} leads to itself")
        if not layer.inputs:
            break
        if len(layer.inputs) > 1:
            raise NoNetworkError(f"{name} has {len(layer.inputs)} inputs")
        name = layer.inputs[0]
    if end is not None and name != end:
        raise NoNetworkError(f"{chain[0].name if chain else name} does not start from {end}")
    seen |= {layer.name for layer in chain}
    return chain[::-1]
