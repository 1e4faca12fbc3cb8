"""Any checkpoint into any format whose home holds it exactly, and rewrites on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forebear.errors import WeightsError, near_misses
from forebear.network.describe.equivalence import same_function
from forebear.network.network import Network
from forebear.network.plan.expand import expand
from forebear.network.plan.plan import Plan
from forebear.tables.dialects import DIALECTS
from forebear.tables.registry import NETWORKS, find
from forebear.weights.layouts import Array
from forebear.weights.load import load
from forebear.weights.native_format import save
from forebear.weights.rewrite import REWRITES
from forebear.weights.transfer import transfer
from forebear.weights.variable_names import Pair, pairs
from forebear.weights.writers.overwrite import write_new

HOMES = ("slim", "keras", "torchvision", "timm", "paper")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What was done, and how far the outputs moved."""

    network: str  # that the target holds
    arrays: int  # written
    differences: tuple[tuple[str, float], ...]  # of each rewrite, relative to the largest logit


def convert(
    source: Path,
    target: Path,
    *,
    network: str | None = None,
    dialect: str | None = None,
    to: str | None = None,
    rewrites: Iterable[str] = (),
    replace: bool = False,
) -> Conversion:
    """Reads any checkpoint and writes it in another format, whole or not at all.

    Args:
        source: a checkpoint of any kind.
        target: its ending tells the format: .ckpt (TensorFlow, several files), .weights.h5 (Keras
            3), .h5 (Keras 2), .pth, .pt or .th, .npz, .safetensors.
        network: that the source is of, a name or a table's file; None recognises it.
        dialect: of a table's file.
        to: the home whose names and function the target has; None keeps the source's own, or
            writes a .safetensors that describes itself ("forebear").
        rewrites: of `forebear.weights.rewrite`, in order.
        replace: an older target may be overwritten.

    Raises:
        WeightsError: the source cannot be read, the home cannot hold it exactly, or the target is
            in the way.
        ValueError: an unknown ending, home or rewrite, or one that does not apply.
    """
    write = _writer(target)
    if to not in (None, "forebear", *HOMES):
        known = ("forebear", *HOMES)
        raise ValueError(
            f"to={to!r}: expected one of {', '.join(known)}.{near_misses(str(to), known)}"
        )
    if target.exists() and not replace:
        raise WeightsError(
            f"{target}: is there already. Expected a new file. Pass another, or --replace."
        )
    net = load(source) if network is None else load(network, weights=source, dialect=dialect)
    differences = []
    for name in rewrites:
        if name not in REWRITES:
            raise ValueError(f"rewrite={name!r}: expected one of {', '.join(REWRITES)}.")
        changed = REWRITES[name](net)
        differences.append((name, difference(net, changed)))
        net = changed
    if to == "forebear" or (to is None and target.suffix == ".safetensors"):
        save(net, target)
        return Conversion(
            network=net.table.name,
            arrays=len(net.state_dict()),
            differences=tuple(differences),
        )
    name, held = _held(net, to or _own_home(net))
    arrays = _arrays(held)
    write(target, held.plan, arrays, replace)
    return Conversion(network=name, arrays=len(arrays), differences=tuple(differences))


def _own_home(net: Network) -> str:
    """The home whose dialect a network is built in: "keras" of keras2-v1."""
    return net.dialect.name.partition("-")[0].removesuffix("2")


def _held(net: Network, home: str) -> tuple[str, Network]:
    """A network of a home that is the same function, with the weights in it.

    The network itself where the home's own dialect built it, also from a table of one's own.

    Raises:
        WeightsError: the home has none; the message says why, and which homes have one.
    """
    if home == _own_home(net) and net.dialect in DIALECTS.values() and not net.plan.folded:
        return net.table.name, net
    reasons: dict[str, str] = {}
    able: list[str] = []
    for name in NETWORKS:
        spelled = _like(name, net.plan)
        verdict = same_function(net.plan, spelled) if spelled is not None else None
        if spelled is None or verdict is None:
            continue
        if verdict.answer == "same":
            if name.startswith(f"{home}/"):
                with torch.device("meta"):
                    held = Network(spelled)
                held.to_empty(device=torch.device("cpu"))
                transfer(net, held)
                return name, held.eval()
            able.append(name)
        elif name.startswith(f"{home}/") and "shapes" not in verdict.reasons[0]:
            reasons[name] = "; ".join(verdict.reasons)
    why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise WeightsError(
        f"to={home!r}: no network of that home holds {net.table.name} in dialect "
        f"{net.dialect.name} exactly ({why or 'none has weights of these shapes'}). Expected a "
        f"home that can: {', '.join(able) or 'none of the published'}. Pass --to forebear, which "
        "holds every network."
    )


def _like(name: str, other: Plan) -> Plan | None:
    """A published network with another's classes and channels; None for another number of units."""
    entry = find(name)
    if [block.units for block in entry.table.blocks] != [b.units for b in other.table.blocks]:
        return None
    return expand(
        entry.table,
        entry.dialect,
        num_classes=other.num_classes,
        in_channels=other.in_channels,
    )


def _arrays(network: Network) -> dict[str, Array]:
    """{the home's name: array in the home's layout}."""
    state = network.state_dict()
    return {
        pair.theirs: np.asarray(pair.layout.store(state[pair.ours].cpu().numpy()), order="C")
        for pair in pairs(network.plan)
    }


KerasLayer = tuple[str, str, list[tuple[str, Array]]]
Writer = Callable[[Path, Plan, Mapping[str, Array], bool], None]


def _writer(target: Path) -> Writer:
    """How a format is written, told by the target's ending."""
    endings: dict[str, Writer] = {
        ".weights.h5": _write_keras,
        ".h5": _write_keras_legacy,
        ".ckpt": _write_tensorflow,
        ".pth": _write_torch,
        ".pt": _write_torch,
        ".th": _write_torch,
        ".npz": _write_npz,
        ".safetensors": _write_safetensors,
    }
    for ending, write in endings.items():
        if target.name.endswith(ending):
            return write
    raise ValueError(
        f"target={str(target)!r}: its ending names no format. Expected one of "
        f"{', '.join(endings)}. Rename it."
    )


def _write_tensorflow(path: Path, _: Plan, arrays: Mapping[str, Array], replace: bool) -> None:
    from forebear.weights.writers.tensorflow.checkpoint_v2 import write_tensorflow

    write_tensorflow(path, arrays.items(), replace=replace)


def _write_torch(path: Path, _: Plan, arrays: Mapping[str, Array], replace: bool) -> None:
    from forebear.weights.writers.torch_file import write_torch

    write_torch(path, arrays, replace=replace)


def _write_npz(path: Path, _: Plan, arrays: Mapping[str, Array], replace: bool) -> None:
    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    write_new(path, write, replace=replace)


def _write_safetensors(path: Path, _: Plan, arrays: Mapping[str, Array], replace: bool) -> None:
    from safetensors.numpy import save_file

    write_new(path, lambda partial: save_file(dict(arrays), partial), replace=replace)


def _write_keras(path: Path, spelled: Plan, arrays: Mapping[str, Array], replace: bool) -> None:
    from forebear.weights.writers.keras import write_keras

    write_keras(path, _layers(spelled, arrays), replace=replace)


def _write_keras_legacy(
    path: Path, spelled: Plan, arrays: Mapping[str, Array], replace: bool
) -> None:
    from forebear.weights.writers.keras import write_keras_legacy

    write_keras_legacy(path, _layers(spelled, arrays), replace=replace)


def _layers(spelled: Plan, arrays: Mapping[str, Array]) -> list[KerasLayer]:
    """Keras layers in the order of its model: name, class, weights."""
    layers: dict[tuple[str, str], KerasLayer] = {}
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
    """Paths and parts as Keras orders its layers: by depth, the longer way to one depth first.

    Files without names are loaded by this order (keras/src/models/functional.py).
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
            beside = f"{unit.path}.shortcut"
            ends = (last.path, beside) if old else (beside, last.path)
            for part in ("conv", "norm"):
                yield from ((path, part) for path in ends)


@torch.inference_mode()
def difference(first: Network, second: Network) -> float:
    """The largest difference of two networks' logits over the largest logit.

    Random pictures of several sizes, and scikit-learn's two photographs where it is installed.
    """
    random = np.random.default_rng(0)
    channels = first.preprocessing.channels
    size = first.preprocessing.size
    shapes = [(size, size), (size, size)]
    if first.preprocessing.resize != "none":
        shapes += [(size + 37, size + 60)]
    pictures: list[Any] = [
        random.integers(0, 256, (*shape, channels), dtype=np.uint8) for shape in shapes
    ]
    if first.preprocessing.resize != "none":
        pictures += _photographs()
    largest = 0.0
    for picture in pictures:
        ours, theirs = (net.eval()(net.preprocess(picture)) for net in (first, second))
        largest = max(largest, float((ours - theirs).abs().max() / ours.abs().max()))
    return largest


def _photographs() -> list[Path]:
    from importlib.util import find_spec

    found = find_spec("sklearn")
    if found is None or found.origin is None:
        return []
    folder = Path(found.origin).parent / "datasets" / "images"
    return [path for path in (folder / "china.jpg", folder / "flower.jpg") if path.is_file()]
