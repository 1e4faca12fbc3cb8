"""Checkpoints of TF2 objects made by hand: a tree of objects, with variables as leaves."""

from __future__ import annotations

import zipfile
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from forebear.weights.readers.base import Array
from forebear.weights.readers.tensorflow.checkpoint_v2 import OBJECT_GRAPH
from forebear.weights.readers.tensorflow.crc32c import crc32c, masked
from forebear.weights.writers.tensorflow.protobuf import fixed32, message, number, varint
from tests.weights.readers.tensorflow_making import GOLDENS, crc, entry, v2_of

END = "/.ATTRIBUTES/VARIABLE_VALUE"
SLOT = "/.OPTIMIZER_SLOT/optimizer"


@dataclass(eq=False)
class Variable:
    """A leaf, with its full name."""

    full: str
    values: Array = field(default_factory=lambda: np.ones(2, np.float32))


Tree = Mapping[str, Any]  # {attribute: another tree, or a variable}; one object may be there twice


def node(
    children: Iterable[tuple[str, int]] = (),
    variable: tuple[str, str] | None = None,
    slots: Iterable[tuple[int, str, int]] = (),
) -> bytes:
    """A TrackableObject in its graph."""
    parts = [message(1, number(1, at), message(2, name.encode())) for name, at in children]
    if variable is not None:
        full, key = (text.encode() for text in variable)
        parts.append(message(2, message(1, b"VARIABLE_VALUE"), message(2, full), message(3, key)))
    parts += [
        message(3, number(1, one), message(2, name.encode()), number(3, other))
        for one, name, other in slots
    ]
    return message(1, *parts)


def graph_of(
    tree: Tree, slots: Mapping[str, Variable] | None = None
) -> tuple[bytes, dict[str, Array]]:
    """The graph of a tree, as TensorFlow numbers it, and {key: array}.

    Slots are {key of a weight: its momentum}, which no attribute leads to.
    """
    places: dict[int, int] = {id(tree): 0}
    keys: dict[int, str] = {}
    found: list[Any] = [tree]
    waiting: deque[tuple[Any, tuple[str, ...]]] = deque([(tree, ())])
    while waiting:
        one, path = waiting.popleft()
        for name, child in one.items() if isinstance(one, Mapping) else ():
            if id(child) in places:
                continue
            places[id(child)] = len(found)
            found.append(child)
            keys[id(child)] = "/".join((*path, name)) + END
            waiting.append((child, (*path, name)))
    extra = dict(slots or {})
    nodes = []
    for one in found:
        if isinstance(one, Variable):
            nodes.append(node(variable=(one.full, keys[id(one)])))
            continue
        owned = extra if "iter" in one else {}
        listed = [(1, "momentum", len(found) + number) for number in range(len(owned))]
        nodes.append(node(((name, places[id(child)]) for name, child in one.items()), slots=listed))
    momenta = {f"{key}{SLOT}/momentum{END}": one for key, one in extra.items()}
    nodes += [node(variable=(one.full, key)) for key, one in momenta.items()]
    arrays = {keys[id(one)]: one.values for one in found if isinstance(one, Variable)}
    return b"".join(nodes), arrays | {key: one.values for key, one in momenta.items()}


def string(text: bytes) -> tuple[bytes, int]:
    """A tensor of one string, and its checksum."""
    size = np.frombuffer(len(text).to_bytes(4, "little"), np.uint8)
    own = masked(crc32c(size)).to_bytes(4, "little")
    whole = crc32c(np.frombuffer(own + text, np.uint8), crc32c(size))
    return varint(len(text)) + own + text, masked(whole)


def objects_of(
    path: Path, graph: bytes, arrays: Mapping[str, Array], texts: Mapping[str, bytes] | None = None
) -> Path:
    """A checkpoint with this graph; texts are tensors of one string."""
    data = b""
    entries: dict[bytes, bytes] = {}
    for key, array in arrays.items():
        content = array.astype(np.float32).tobytes()
        place = (number(4, len(data)), fixed32(6, crc(content)))
        entries[key.encode()] = entry(array.shape, len(content), *place)
        data += content
    for key, text in {**(texts or {}), OBJECT_GRAPH: graph}.items():
        content, checksum = string(text)
        place = (number(4, len(data)), fixed32(6, checksum))
        entries[key.encode()] = entry((), len(content), *place, kind=7)
        data += content
    return v2_of(entries, path, data)


def tree_of(
    path: Path,
    tree: Tree,
    slots: Mapping[str, Variable] | None = None,
    texts: Mapping[str, bytes] | None = None,
) -> Path:
    """A checkpoint of a tree of objects."""
    return objects_of(path, *graph_of(tree, slots), texts)


def layers_of(arrays: Mapping[str, Array]) -> dict[str, dict[str, Variable]]:
    """Objects as those of a Keras model with these weights: {layer: {attribute: variable}}."""
    layers: dict[str, dict[str, Variable]] = {}
    for name, array in arrays.items():
        layer, _, weight = name.rpartition("/")
        layers.setdefault(layer, {})[weight] = Variable(name, array)
    return {f"layer_with_weights-{i}": one for i, one in enumerate(layers.values())}


def unpacked(which: str, folder: Path) -> Path:
    """The files that a version of Keras wrote, in a folder of their own."""
    with zipfile.ZipFile(GOLDENS / f"objects_{which}.zip") as archive:
        archive.extractall(folder)
    return folder
