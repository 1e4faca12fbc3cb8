"""Converts checkpoints between formats and libraries, exactly, with optional rewrites."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from forebear.errors import WeightsError, near_misses
from forebear.network.describe.equivalence import same_function
from forebear.network.finite import check_finite, first_not_finite
from forebear.network.model_card import NOTES
from forebear.network.network import Network
from forebear.network.plan.expand import expand
from forebear.network.plan.plan import Plan
from forebear.tables.dialects import DIALECTS
from forebear.tables.registry import NETWORKS, find
from forebear.text import truncated
from forebear.weights.layouts import Array
from forebear.weights.load import load, native_file
from forebear.weights.native_format import save
from forebear.weights.rewrite import REWRITES
from forebear.weights.transfer import held_by
from forebear.weights.writers.keras_model import keras_layers, stored_arrays
from forebear.weights.writers.overwrite import write_new

_log = logging.getLogger(__name__)

LIBRARIES = ("slim", "keras", "torchvision", "timm", "paper")
FOLDERS = ("transformers", "kerashub")  # libraries whose target is a folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What was converted, and how much the rewrites changed the outputs."""

    network: str  # in the target
    arrays: int  # number of arrays written
    differences: tuple[
        tuple[str, float], ...
    ]  # of each rewrite: largest change of a logit, relative to the largest logit


def convert(
    source: Path,
    target: Path,
    *,
    network: str | None = None,
    dialect: str | None = None,
    to: str | None = None,
    rewrites: Iterable[str] = (),
    which: str | None = None,
    replace: bool = False,
) -> Conversion:
    """Reads a checkpoint and writes it atomically in another format.

    Args:
        source: A checkpoint in any supported format.
        target: Its extension selects the format: .ckpt (TensorFlow, several files), .weights.h5
            (Keras 3), .h5 (Keras 2), .pth, .pt or .th, .npz, .safetensors.
        network: Network of the source, a name or a table file; None detects it.
        dialect: Dialect of a table file.
        to: Library whose array names and function the target has. None keeps the source's library,
            or writes a self-describing file ("forebear") if the target is .safetensors.
        rewrites: Names of rewrites in `forebear.weights.rewrite`, in order.
        which: The set of weights, if the source has several, as for `forebear.load`.
        replace: Whether an existing target may be overwritten.

    Raises:
        WeightsError: The source cannot be read, the library cannot hold it exactly, or the target
            exists.
        ValueError: The extension, library or rewrite is unknown, or a rewrite does not apply.
    """
    hub_folder = to in FOLDERS or (to == "timm" and not target.suffix)
    if not hub_folder:
        _writer(target)  # raises an error before the work
    known = ("forebear", *FOLDERS, *LIBRARIES)
    if to is not None and to not in known:
        raise ValueError(
            f"to={to!r}: expected one of {', '.join(known)}.{near_misses(str(to), known)}"
        )
    if target.exists() and not replace:
        raise WeightsError(
            f"{target}: the file exists. Expected a new file. Pass another name, or --replace."
        )
    if network is None:
        net = load(source, which=which)
    else:
        net = load(network, weights=source, which=which, dialect=dialect)
    notes = net.card.provenance.get(NOTES)
    if notes and native_file(source) is None:
        _log.warning("%s: %s", truncated(source), notes)
    differences = []
    for name in rewrites:
        if name not in REWRITES:
            raise ValueError(f"rewrite={name!r}: expected one of {', '.join(REWRITES)}.")
        changed = REWRITES[name](net)
        differences.append((name, difference(net, changed)))
        net = changed
    _warn_not_finite(source, net)
    if to == "forebear" or (to is None and target.suffix == ".safetensors"):
        save(net, target)
        return Conversion(
            network=net.table.name,
            arrays=len(net.state_dict()),
            differences=tuple(differences),
        )
    if to in FOLDERS:
        return Conversion(
            network=net.table.name,
            arrays=_folder_writer(to)(target, net, replace=replace),
            differences=tuple(differences),
        )
    name, held = _network_in(net, to or _own_library(net))
    arrays = stored_arrays(held)
    if hub_folder:
        from forebear.weights.writers.timm_folder import write_timm

        write_timm(target, name.removeprefix("timm/"), net, arrays, replace=replace)
    else:
        _writer(target)(target, held.plan, arrays, replace)
    return Conversion(network=name, arrays=len(arrays), differences=tuple(differences))


class _FolderWriter(Protocol):
    def __call__(self, folder: Path, network: Network, *, replace: bool) -> int: ...


def _folder_writer(library: str) -> _FolderWriter:
    """Returns the function that writes a library's folder, and returns its number of arrays."""
    if library == "kerashub":
        from forebear.weights.writers.kerashub_folder import write_kerashub

        return write_kerashub
    from forebear.weights.writers.transformers_folder import write_transformers

    return write_transformers


def _warn_not_finite(source: Path, net: Network) -> None:
    """Warns of values that are not finite. A lossless conversion keeps them."""
    name = first_not_finite(net)
    if name is not None:
        _log.warning(
            "%s: its array %s has values that are not finite. They are converted as they are. "
            "Check the weights.",
            truncated(source),
            name,
        )


def _own_library(net: Network) -> str:
    """Returns the library of a network's dialect: "keras" for keras2-v1."""
    return net.dialect.name.partition("-")[0].removesuffix("2")


def _network_in(net: Network, library: str) -> tuple[str, Network]:
    """Returns a network of a library that computes the same function, with the weights in it.

    This is the network itself if it has one of the library's dialects, even with a user's table.

    Raises:
        WeightsError: The library has none; the message says why, and which libraries have one.
    """
    if library == _own_library(net) and net.dialect in DIALECTS.values() and not net.plan.folded:
        return net.table.name, net
    reasons: dict[str, str] = {}
    able: list[str] = []
    for name in NETWORKS:
        spelled = _like(name, net.plan)
        verdict = same_function(net.plan, spelled) if spelled is not None else None
        if spelled is None or verdict is None:
            continue
        if verdict.answer == "same":
            if name.startswith(f"{library}/"):
                return name, held_by(spelled, net)
            able.append(name)
        elif name.startswith(f"{library}/") and "shapes" not in verdict.reasons[0]:
            reasons[name] = "; ".join(verdict.reasons)
    why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise WeightsError(
        f"to={library!r}: no network of this library holds {net.table.name} in dialect "
        f"{net.dialect.name} exactly ({why or 'none has weights of these shapes'}). Expected a "
        f"library that can: {', '.join(able) or 'none of the published'}. Pass --to forebear, "
        "which holds every network."
    )


def _like(name: str, other: Plan) -> Plan | None:
    """Returns a published network with the classes and channels of another.

    None if it has another number of units.
    """
    entry = find(name)
    if [block.units for block in entry.table.blocks] != [b.units for b in other.table.blocks]:
        return None
    return expand(
        entry.table,
        entry.dialect,
        num_classes=other.num_classes,
        in_channels=other.in_channels,
    )


Writer = Callable[[Path, Plan, Mapping[str, Array], bool], None]


def _writer(target: Path) -> Writer:
    """Returns the function that writes the format of the target's extension."""
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
        f"target={str(target)!r}: its extension is no known format. Expected one "
        f"of {', '.join(endings)}. Rename it."
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

    write_keras(path, keras_layers(spelled, arrays), replace=replace)


def _write_keras_legacy(
    path: Path, spelled: Plan, arrays: Mapping[str, Array], replace: bool
) -> None:
    from forebear.weights.writers.keras import write_keras_legacy

    write_keras_legacy(path, keras_layers(spelled, arrays), replace=replace)


@torch.inference_mode()
def difference(first: Network, second: Network) -> float:
    """Returns the largest difference between the logits of two networks, over the largest logit.

    The inputs are random images of several sizes, and two photographs if scikit-learn is installed.

    Raises:
        WeightsError: The logits of a network are not finite, so that they cannot be compared.
    """
    random = np.random.default_rng(0)
    channels = first.preprocessing.channels
    height, width = first.preprocessing.shape
    shapes = [(height, width)] * 2
    if first.preprocessing.resize != "none":
        shapes += [(height + 37, width + 60)]
    images: list[Any] = [
        random.integers(0, 256, (*shape, channels), dtype=np.uint8) for shape in shapes
    ]
    if first.preprocessing.resize != "none" and channels in (1, 3):
        images += _photographs()
    largest = 0.0
    for image in images:
        ours, theirs = (net.eval()(net.preprocess(image)) for net in (first, second))
        check_finite(first, ours, lambda _: "a test image")
        check_finite(second, theirs, lambda _: "a test image")
        largest = max(largest, float((ours - theirs).abs().max() / ours.abs().max()))
    return largest


def _photographs() -> list[Path]:
    from importlib.util import find_spec

    found = find_spec("sklearn")
    if found is None or found.origin is None:
        return []
    folder = Path(found.origin).parent / "datasets" / "images"
    return [path for path in (folder / "china.jpg", folder / "flower.jpg") if path.is_file()]
