"""Loads a network with weights, from a name or a file."""

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
    """Opens a checkpoint as {name: array}. Each array is read when it is accessed.

    The formats are TensorFlow V1 and V2, Keras .h5, .weights.h5 and .keras, torch, safetensors,
    .npz, and folders of the Hugging Face Hub. The content determines the format. Nothing in the
    file is ever executed.

    Raises:
        WeightsError: The file is missing, damaged or malicious. The one-line message names the file
            and the array.
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
    """Loads a network with weights, in evaluation mode.

    Args:
        what: Without `weights`, a checkpoint: a file that `forebear.save` wrote, a run folder with
            one, or any other checkpoint, whose network is then identified. With `weights`, a
            network, as for `forebear.create`.
        weights: A checkpoint of the network, or "published" for the weights that its library
            publishes by default. "published:TAG" selects others that `forebear list --weights`
            lists. Published weights are downloaded once.
        partial: Keep the initial weights of layers that are missing from the checkpoint or do not
            fit.
        progress: Called during a download with the number of bytes so far and the total, which is
            None if it is unknown.
        options: The options of `forebear.create`, if `what` is a network. By default, num_classes
            is that of the checkpoint.

    Raises:
        WeightsError: The checkpoint cannot be read, identified or downloaded, or it does not fit
            the network.
        ValueError: A name is unknown, or the network does not support an argument.
    """
    if weights is not None:
        path, row = Path(weights), None
        if str(weights).partition(":")[0] == "published":
            row = find_published(str(what), str(weights).partition(":")[2] or None)
            path = fetch(row, progress=progress)
        return _load_named(what, path, row, partial, options)
    path = Path(str(what))
    if isinstance(what, Table) or str(what) in NETWORKS or not (path.exists() or path.suffix):
        network = create(what, **options)  # raises an error if the name is unknown
        raise ValueError(
            f"weights=None: {network.table.name} would keep its random initial weights. "
            'Expected a checkpoint or "published". Pass one, or call forebear.create.'
        )
    if options or partial:
        given = [*options, *(["partial"] if partial else [])]
        raise ValueError(
            f"{', '.join(given)}: {what} is a checkpoint, which determines its network. Expected "
            "no options. Remove them, or pass a network's name and weights=... for the checkpoint."
        )
    own = path / "model.safetensors" if path.is_dir() else path
    if own.is_file() and describes_itself(own):
        return load_file(own)
    with open_arrays(path) as arrays:
        fit = recognise(arrays)
        network = create(fit.network, num_classes=fit.num_classes, in_channels=fit.in_channels)
        load_arrays(network, arrays)
        return _described(network, fit.network, path)


def find_network(path: Path) -> tuple[str, Table, Dialect]:
    """Returns the network of a checkpoint: its name, its table and its dialect.

    Raises:
        WeightsError: The file cannot be read or identified.
    """
    if path.is_file() and describes_itself(path):
        plan = load_file(path).plan
        return plan.table.name, plan.table, plan.dialect
    with open_arrays(path) as arrays:
        name = recognise(arrays).network
    return (name, *resolve(name, None))


def find_card(path: Path) -> ModelCard | None:
    """Returns the known preprocessing and classes of a checkpoint; None if nothing is known.

    They are stored in the checkpoint, or known from its publisher.

    Raises:
        WeightsError: The file is damaged.
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
def library_arrays(path: Path) -> Iterator[Mapping[str, Array]]:
    """Opens the arrays of any checkpoint, including forebear's, under the original names."""
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
    with library_arrays(path) as arrays:
        if "num_classes" not in options and not partial:
            classes = _classes(*resolve(what, options.get("dialect")), arrays)
            options = options | {"num_classes": classes}
        network = create(what, **options)
        load_arrays(network, arrays, partial=partial)
        name = what.name if isinstance(what, Table) else str(what)
        return _described(network, name, path, row)


def _classes(table: Table, dialect: Dialect, arrays: Mapping[str, Array]) -> int | None:
    """Returns the number of logits in a checkpoint; None if it has no logits."""
    last = pairs(expand(table, dialect, num_classes=table.classes))[-1]
    names = {bare(key).replace("probs/", "predictions/"): key for key in arrays}
    return len(arrays[names[last.theirs]]) if last.theirs in names else None


def _described(network: Network, name: str, path: Path, row: Published | None = None) -> Network:
    """Fills in the network's card from what is known about the file, and returns the network.

    For a published file this is the publisher's information, otherwise only the hash.
    """
    if row is None and path.is_file():
        row = by_digest(path)
    if row is not None and row.network != name:
        row = None  # the file was published for another network, with other preprocessing
    card, classes = network.card, network.plan.num_classes
    provenance = {
        "network": name,
        "file": path.name,
        "sha256": sha256(path),
        "converter": f"forebear {__version__}",
    }
    if row is not None:
        card = replace(card, preprocessing=row.preprocessing)
        certain = "" if row.hash is not None else " (identified only by the file name)"
        provenance |= {"weights": f"{row.network} {row.tag}{certain}"}
        provenance |= {"licence": row.licence or "not stated"}
    known: dict[int | None, str] = {1000: "imagenet-1000", 1001: "imagenet-1001"}
    kind = row.classes if row is not None else known.get(classes)
    if kind is not None and len(class_names(kind)) == classes:
        card = replace(card, classes=class_names(kind))
    network.card = replace(card, provenance=provenance)
    return network.eval()


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, or of all files of a folder or a checkpoint.

    The files are hashed in the order of their names.

    Raises:
        WeightsError: A file cannot be read.
    """
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
        raise WeightsError(
            f"{path}: the file cannot be read ({error.strerror}). Expected a readable checkpoint. "
            "Check the path and its permissions."
        ) from error
    return total.hexdigest()
