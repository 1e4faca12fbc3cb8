"""From a name or a file to a network with its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from forebear.errors import WeightsError
from forebear.network.create import create
from forebear.network.model_card import ModelCard
from forebear.network.network import Network
from forebear.network.plan.expand import expand
from forebear.tables.dialects import Dialect
from forebear.tables.files import resolve
from forebear.tables.imagenet_classes import class_names
from forebear.tables.registry import NETWORKS
from forebear.tables.rows import Table
from forebear.version import __version__
from forebear.weights.assign import bare, load_arrays
from forebear.weights.catalog import Published, by_digest, find_published
from forebear.weights.download import fetch
from forebear.weights.identify import recognise
from forebear.weights.native_format import describes_itself, load_file
from forebear.weights.readers.base import Array, Arrays
from forebear.weights.readers.detect import open_arrays
from forebear.weights.variable_names import pairs


def read_arrays(path: str | Path) -> Arrays:
    """The bare arrays of a checkpoint of any kind, {name: array}, each read when it is asked for.

    TensorFlow V1 and V2, Keras .h5, .weights.h5 and .keras, torch, safetensors, .npz, and folders
    of the Hugging Face Hub; told by content. Nothing in the file is ever executed.

    Raises:
        WeightsError: missing, damaged or hostile; in one line that names file and array.
    """
    return open_arrays(Path(path))


def load(
    what: str | Path | Table,
    *,
    weights: str | Path | None = None,
    partial: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
    **options: Any,
) -> Network:
    """A network with its weights, in evaluation mode.

    Args:
        what: a file that describes itself or a run's folder with one; any other checkpoint, whose
            network is then recognised; or with `weights` a network, as `forebear.create` takes it.
        weights: a checkpoint of that network, or "published" for its home's own, which are
            fetched once ("published:TAG" for others that `forebear list --weights` names).
        partial: leave the network's own first weights where the file has none that fit.
        progress: called with the bytes fetched so far and in all, None where that is not known.
        options: of `forebear.create`, for a name; num_classes is read off the file.

    Raises:
        WeightsError: a file that cannot be read, recognised or fitted, or not fetched.
        ValueError: an unknown name, or arguments that this network cannot have.
    """
    if weights is not None:
        path, row = Path(weights), None
        if str(weights).partition(":")[0] == "published":
            row = find_published(str(what), str(weights).partition(":")[2] or None)
            path = fetch(row, progress=progress)
        return _load_named(what, path, row, partial, options)
    path = Path(str(what))
    if isinstance(what, Table) or str(what) in NETWORKS or not (path.exists() or path.suffix):
        network = create(what, **options)  # refuses unknown names with near misses
        raise ValueError(
            f"weights=None: {network.table.name} would keep its first, random weights. "
            'Expected a checkpoint or "published". Pass one, or call forebear.create.'
        )
    if options or partial:
        raise ValueError(f"{what} is a file: expected no other options. Pass the network's name.")
    own = path / "model.safetensors" if path.is_dir() else path
    if own.is_file() and describes_itself(own):
        return load_file(own)
    with open_arrays(path) as arrays:
        fit = recognise(arrays)
        network = create(fit.network, num_classes=fit.num_classes, in_channels=fit.in_channels)
        load_arrays(network, arrays)
        return _described(network, fit.network, path)


def find_network(path: Path) -> tuple[str, Table, Dialect]:
    """The network that a checkpoint is of: its name, its table and its dialect.

    Raises:
        WeightsError: a file that cannot be read or recognised.
    """
    if path.is_file() and describes_itself(path):
        plan = load_file(path).plan
        return plan.table.name, plan.table, plan.dialect
    with open_arrays(path) as arrays:
        name = recognise(arrays).network
    return (name, *resolve(name, None))


def find_card(path: Path) -> ModelCard | None:
    """The preprocessing and the classes that a checkpoint, or its publisher, names; None: nobody.

    Raises:
        WeightsError: a damaged file.
    """
    if not path.is_file():
        return None
    row = by_digest(path)
    if row is not None:
        classes = class_names(row.classes) if row.classes else ()
        return ModelCard(preprocessing=row.preprocessing, classes=classes)
    if describes_itself(path):
        card = load_file(path).card
        return ModelCard(preprocessing=card.preprocessing, classes=card.classes)
    return None


@contextmanager
def home_arrays(path: Path) -> Iterator[Mapping[str, Array]]:
    """The arrays of a checkpoint under their home's names, also of a file that describes itself."""
    if path.is_file() and describes_itself(path):
        source = load_file(path)
        state = source.state_dict()
        yield {p.theirs: p.layout.store(state[p.ours].numpy()) for p in pairs(source.plan)}
    else:
        with open_arrays(path) as arrays:
            yield arrays


def _load_named(
    what: str | Path | Table,
    path: Path,
    row: Published | None,
    partial: bool,
    options: dict[str, Any],
) -> Network:
    with home_arrays(path) as arrays:
        if "num_classes" not in options and not partial:
            classes = _classes(*resolve(what, options.get("dialect")), arrays)
            options = options | {"num_classes": classes}
        network = create(what, **options)
        load_arrays(network, arrays, partial=partial)
        name = what.name if isinstance(what, Table) else str(what)
        return _described(network, name, path, row)


def _classes(table: Table, dialect: Dialect, arrays: Mapping[str, Array]) -> int | None:
    """The logits that a file has for a network, whatever their number."""
    last = pairs(expand(table, dialect, num_classes=table.classes))[-1]
    names = {bare(key).replace("probs/", "predictions/"): key for key in arrays}
    return len(arrays[names[last.theirs]]) if last.theirs in names else None


def _described(network: Network, name: str, path: Path, row: Published | None = None) -> Network:
    """The network with what is known of the file: its publisher's row, or its hash alone."""
    if row is None and path.is_file():
        row = by_digest(path)
    if row is not None and row.network != name:
        row = None  # the same file, published for another network: its preprocessing is not ours
    card, classes = network.card, network.plan.num_classes
    provenance = {
        "network": name,
        "file": path.name,
        "sha256": sha256(path),
        "converter": f"forebear {__version__}",
    }
    if row is not None:
        card = replace(card, preprocessing=row.preprocessing)
        certain = "" if row.hash is not None else " (told by the file's name alone)"
        provenance |= {"weights": f"{row.network} {row.tag}{certain}"}
        provenance |= {"licence": row.licence or "not stated"}
    known: dict[int | None, str] = {1000: "imagenet-1000", 1001: "imagenet-1001"}
    kind = row.classes if row is not None else known.get(classes)
    if kind is not None and len(class_names(kind)) == classes:
        card = replace(card, classes=class_names(kind))
    network.card = replace(card, provenance=provenance)
    return network.eval()


def sha256(path: Path) -> str:
    """Of a file, or of a folder's or checkpoint's files in the order of their names."""
    files = [path]
    if not path.is_file():
        files = sorted(path.iterdir() if path.is_dir() else path.parent.glob(f"{path.name}.*"))
    total = hashlib.sha256()
    try:
        for file in files:
            if file.is_file():
                with file.open("rb") as stream:
                    while chunk := stream.read(2**20):
                        total.update(chunk)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}).") from error
    return total.hexdigest()
