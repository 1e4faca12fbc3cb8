"""Loads a network with weights, from a name or a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

from forebear.errors import WeightsError
from forebear.network.backbone import Backbone, refuse_indices
from forebear.network.create import create
from forebear.network.describe.equivalence import same_function
from forebear.network.model_card import NOTES, ModelCard
from forebear.network.network import Network
from forebear.network.plan.expand import expand
from forebear.tables.dialects import Dialect
from forebear.tables.files import resolve
from forebear.tables.imagenet_classes import class_names
from forebear.tables.registry import NETWORKS, find
from forebear.tables.rows import Table
from forebear.text import truncated
from forebear.version import __version__
from forebear.weights.assign import load_arrays
from forebear.weights.catalog import Published, by_digest, find_published
from forebear.weights.choose_set import RAW
from forebear.weights.download import fetch
from forebear.weights.hub_source import located
from forebear.weights.native_format import describes_itself, load_file
from forebear.weights.readers.base import Array, Arrays
from forebear.weights.readers.detect import open_arrays
from forebear.weights.readers.hub import HubArrays
from forebear.weights.readers.tensorflow.open import is_tensorflow
from forebear.weights.transformers_resnet import is_transformers, network_of, renamed
from forebear.weights.understand import Understood, for_channels, understand, understand_as
from forebear.weights.variable_names import pairs

_WEIGHTS, _SETTINGS = "model.safetensors", "settings.json"  # of a run folder


def read_arrays(path: str | Path) -> Arrays:
    """Opens a checkpoint as {name: array}. Each array is read when it is accessed.

    The formats are TensorFlow V1, V2 and SavedModel, Keras .h5, .weights.h5 and .keras, torch,
    safetensors, .npz, pickles of NumPy arrays (Paddle, Detectron), ONNX graphs, Caffe models,
    Torch7 files, and folders of the Hugging Face Hub. The content determines the format. Nothing
    in the file is ever executed. Of a torch file with several state dicts, these are the arrays of
    the largest one without averages; `whole` of the result has all of them.

    Raises:
        WeightsError: The file is missing, damaged or malicious. The one-line message names the file
            and the array.
    """
    return open_arrays(located(Path(path)))


@overload
def load(
    what: str | Path | Table,
    *,
    weights: str | Path | None = None,
    which: str | None = None,
    partial: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
    features_only: Literal[False] = False,
    out_indices: None = None,
    **options: Any,
) -> Network: ...


@overload
def load(
    what: str | Path | Table,
    *,
    weights: str | Path | None = None,
    which: str | None = None,
    partial: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
    features_only: Literal[True],
    out_indices: int | Iterable[int] | None = None,
    **options: Any,
) -> Backbone: ...


def load(
    what: str | Path | Table,
    *,
    weights: str | Path | None = None,
    which: str | None = None,
    partial: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
    features_only: bool = False,
    out_indices: int | Iterable[int] | None = None,
    **options: Any,
) -> Network | Backbone:
    """Loads a network with weights, in evaluation mode.

    Args:
        what: Without `weights`, a checkpoint: a file that `forebear.save` wrote, a run folder with
            one, or any other checkpoint, whose network is then identified. "hf:OWNER/NAME" is a
            repository of the Hugging Face Hub, which is fetched. With `weights`, a
            network, as for `forebear.create`.
        weights: A checkpoint of the network, or "published" for the weights that its library
            publishes by default. "published:TAG" selects others that `forebear list --weights`
            lists. Published weights are downloaded once.
        which: The weights to take if the checkpoint has several sets: "raw", "ema" for averages, or
            a name in the file, such as "teacher". "body" takes the raw weights without the
            classifier. By default, averages are taken if the trainer evaluates them, as timm does.
        partial: Keep the initial weights of layers that are missing from the checkpoint or do not
            fit.
        progress: Called during a download with the number of bytes so far and the total, which is
            None if it is unknown.
        features_only: Return a backbone that gives feature maps, as `forebear.create` does.
        out_indices: The feature maps that a backbone gives, as for `forebear.create`.
        options: The other options of `forebear.create`, if `what` is a network. By default,
            num_classes and in_channels are those of the checkpoint.

    Raises:
        WeightsError: The checkpoint cannot be read, identified or downloaded, or it does not fit
            the network.
        ValueError: A name is unknown, or the network does not support an argument.
    """
    refuse_indices(features_only, out_indices)
    if weights is not None:
        network = _load_weights(what, weights, which, partial, progress, options)
    else:
        network = _load_checkpoint(what, which, partial, options)
    return Backbone(network, out_indices) if features_only else network


def _load_weights(
    what: str | Path | Table,
    weights: str | Path,
    which: str | None,
    partial: bool,
    progress: Callable[[int, int | None], None] | None,
    options: dict[str, Any],
) -> Network:
    path, row = located(Path(weights)), None
    if str(weights).partition(":")[0] == "published":
        row = find_published(str(what), str(weights).partition(":")[2] or None)
        path = fetch(row, progress=progress)
    return _load_named(what, path, row, which, partial, options)


def _load_checkpoint(
    what: str | Path | Table, which: str | None, partial: bool, options: dict[str, Any]
) -> Network:
    path = located(Path(str(what)))
    there = path.exists() or path.suffix or is_tensorflow(path)
    if isinstance(what, Table) or str(what) in NETWORKS or not there:
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
    own = native_file(path)
    if own is not None:
        _refuse_choice(own, which)
        return load_file(own)
    with open_arrays(path) as arrays:
        found = understand(arrays, which)
        network = create(
            found.table,
            dialect=found.dialect,
            num_classes=found.num_classes,
            in_channels=found.in_channels,
        )
        load_arrays(network, found.arrays)
        return _described(network, found, path)


def native_file(path: Path) -> Path | None:
    """Returns the file in forebear's own format that a path stands for, or None.

    Args:
        path: A file, or the folder of a finished run.

    Raises:
        WeightsError: It is the folder of a run that did not finish.
    """
    path = located(path)
    if path.is_dir():
        run = (path / _SETTINGS).is_file()
        path = path / _WEIGHTS
        if run and not path.is_file():
            raise WeightsError(
                f"{truncated(path.parent)}: a run that did not finish: {_WEIGHTS} is missing. "
                "Expected a finished run. Go on with it by forebear train --resume."
            )
        if run:
            return path  # `load_file` says what is wrong with it
    return path if path.is_file() and describes_itself(path) else None


def _refuse_choice(path: Path, which: str | None) -> None:
    if which not in (None, RAW):
        raise WeightsError(
            f"which={truncated(which)!r}: {truncated(path)} has one set of weights. Expected "
            f"{RAW!r} or nothing. Remove which, or --which on the command line."
        )


def find_network(path: Path) -> tuple[str, Table, Dialect]:
    """Returns the network of a checkpoint: its name, its table and its dialect.

    Raises:
        WeightsError: The file cannot be read or identified.
    """
    path = located(path)
    own = native_file(path)
    if own is not None:
        plan = load_file(own).plan
        return plan.table.name, plan.table, plan.dialect
    with open_arrays(path) as arrays:
        found = understand(arrays)
    return found.name, found.table, found.dialect


def find_card(path: Path) -> ModelCard | None:
    """Returns the known preprocessing and classes of a checkpoint; None if nothing is known.

    They are stored in the checkpoint, or known from its publisher.

    Raises:
        WeightsError: The file is damaged.
    """
    path = located(path)
    own = native_file(path)
    if own is not None:
        card = load_file(own).card
        return ModelCard(
            preprocessing=card.preprocessing, classes=card.classes, multi_label=card.multi_label
        )
    row = by_digest(path) if path.is_file() else None
    if row is not None:
        classes = class_names(row.classes) if row.classes else ()
        return ModelCard(preprocessing=row.preprocessing, classes=classes)
    with open_arrays(path) as arrays:
        try:
            found = understand(arrays)
        except WeightsError:  # the network is not a published one, or one has to be chosen
            return None
        rule = found.facts.preprocessing or found.dialect.preprocessing
        says = isinstance(arrays, HubArrays) or found.facts.preprocessing is not None
        if not says and found.in_channels == rule.channels:
            return None
        rule, _ = for_channels(rule, found.in_channels)
        return ModelCard(preprocessing=rule, classes=_class_names(found))


def _class_names(found: Understood) -> tuple[str, ...]:
    names = found.facts.classes
    fits = len(names) == found.num_classes and len(set(names)) == len(names)
    return names if fits else ()


@contextmanager
def library_arrays(path: Path) -> Iterator[Mapping[str, Array]]:
    """Opens the arrays of any checkpoint, including forebear's, under the original names.

    `load_arrays` finds the network's among them.
    """
    path = located(path)
    own = native_file(path)
    if own is not None:
        source = load_file(own)
        state = source.state_dict()
        yield {p.theirs: p.layout.store(state[p.ours].numpy()) for p in pairs(source.plan)}
        return
    with open_arrays(path) as arrays:
        if isinstance(arrays, HubArrays) and is_transformers(arrays.config):
            yield renamed(arrays, *network_of(arrays.config, path))
        else:
            yield arrays


def _load_named(
    what: str | Path | Table,
    path: Path,
    row: Published | None,
    which: str | None,
    partial: bool,
    options: dict[str, Any],
) -> Network:
    own = native_file(path)
    if own is not None:
        _refuse_choice(own, which)
    with library_arrays(path) as arrays:
        table, dialect = resolve(what, options.get("dialect"))
        try:
            found = understand_as(table, dialect, arrays, which, partial=partial)
        except WeightsError as error:
            said = str(error).removeprefix(f"{truncated(path)}: ")
            raise WeightsError(f"{truncated(path)}: {said}") from error
        if not partial:
            options = {"num_classes": found.num_classes} | options
        network = create(what, **{"in_channels": found.in_channels} | options)
        load_arrays(network, found.arrays, partial=partial)
        name = what.name if isinstance(what, Table) else str(what)
        return _described(network, replace(found, name=name), path, row)


def _described(
    network: Network, found: Understood, path: Path, row: Published | None = None
) -> Network:
    """Fills in the network's card from what is known about the file, and returns the network.

    For a published file this is the publisher's information, otherwise what the file says.
    """
    if row is None and path.is_file():
        row = by_digest(path, found.name)
    if row is not None and not _is_of(row, network, found.name):
        row = None  # the file was published for another network, with other preprocessing
    card, classes, facts = network.card, network.plan.num_classes, found.facts
    provenance = {
        "network": found.name,
        "file": path.name,
        "sha256": sha256(path),
        "converter": f"forebear {__version__}",
    }
    if row is not None:
        certain = "" if row.hash is not None else " (identified only by the file name)"
        provenance |= {"weights": f"{row.network} {row.tag}{certain}"}
        provenance |= {"licence": row.licence or "not stated"}
    rule = row.preprocessing if row is not None else facts.preprocessing or card.preprocessing
    rule, notes = for_channels(rule, network.plan.in_channels)
    notes = facts.notes + notes
    if notes:
        provenance[NOTES] = "; ".join(notes)
    names = _class_names(found)
    known: dict[int | None, str] = {1000: "imagenet-1000", 1001: "imagenet-1001"}
    kind = row.classes if row is not None else known.get(classes)
    if not names and kind is not None and len(class_names(kind)) == classes:
        names = class_names(kind)
    network.card = replace(card, preprocessing=rule, classes=names, provenance=provenance)
    return network.eval()


def _is_of(row: Published, network: Network, name: str) -> bool:
    """Whether a published file holds the weights of a network, under whichever name.

    Names and shapes do not tell timm's ResNet-50 from torchvision's, which is the same function.
    """
    if row.network == name:
        return True
    entry, plan = find(row.network), network.plan
    theirs = expand(
        entry.table, entry.dialect, num_classes=plan.num_classes, in_channels=plan.in_channels
    )
    return same_function(theirs, plan).answer == "same"


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, or of all files of a folder or a checkpoint.

    The files are hashed in the order of their names.

    Raises:
        WeightsError: A file cannot be read.
    """
    files = [path]
    if not path.is_file():
        inside = (*path.glob("*"), *path.glob("variables/*"))  # the latter in a SavedModel
        files = sorted(inside if path.is_dir() else path.parent.glob(f"{path.name}.*"))
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
