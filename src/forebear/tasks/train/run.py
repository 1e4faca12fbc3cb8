"""One training run from a data set's name to a finished folder."""

from __future__ import annotations

import platform
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import forebear
from forebear.data.batches import Batches
from forebear.data.pictures import Data
from forebear.data.sources import read_data
from forebear.data.store import Store
from forebear.errors import RunError
from forebear.network.build import create
from forebear.network.card import Card
from forebear.network.measure import check_size
from forebear.network.network import Network
from forebear.tables.dialects import Dialect
from forebear.tables.files import (
    dialect_from_dict,
    preprocessing_from_dict,
    resolve,
    table_from_dict,
    table_to_dict,
)
from forebear.tables.preprocessing import TORCHVISION, Preprocessing
from forebear.tables.rows import Table
from forebear.tasks.device import find_device, find_precision
from forebear.tasks.evaluate import Evaluation, evaluate
from forebear.tasks.plots import can_draw, draw_confusion, draw_curves
from forebear.tasks.threads import Threads
from forebear.tasks.train.display import Display
from forebear.tasks.train.folder import RunFolder
from forebear.tasks.train.loop import Epoch, fit
from forebear.tasks.train.recipe import Recipe
from forebear.weights.files import describes_itself, load_file
from forebear.weights.load import home_arrays
from forebear.weights.match import load_arrays
from forebear.weights.published import by_digest

_GO_ON = "forebear train --resume"
SMALL = 48  # pixels: up to here the default network has the CIFAR root


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the caller asked for; None leaves the choice to the data."""

    data: str  # as read_data takes it
    network: str | None = None
    out: Path | None = None
    dialect: str | None = None
    replace: bool = False
    device: str = "auto"
    precision: str = "auto"
    seed: int = 0
    epochs: int | None = None
    batch: int | None = None
    lr: float | None = None
    size: int | None = None
    mirror: bool | None = None
    weights: Path | None = None  # a checkpoint of the network to begin with
    partial: bool = False  # leave random what the checkpoint has none of, as other classes' head
    threads: int | None = None  # None: as many as prove fastest while the run goes on


def default_recipe(data: Data, request: Request, *, norms: bool) -> Recipe:
    """A recipe that suits the size of a data set, with what the request fixes.

    The rate is 0.1 for 128 pictures (He et al. 2015, section 4.2), in proportion to the batch
    (Goyal et al. 2017), and a tenth of it for networks without norms (Krizhevsky 2014).
    """
    device = find_device(request.device)
    count = len(data.train)
    batch = request.batch if request.batch is not None else _batch(count)
    size = data.side if request.size is None else request.size
    rate = (0.1 if norms else 0.01) * batch / 128
    return Recipe(
        epochs=request.epochs if request.epochs is not None else 15,
        batch=batch,
        lr=rate if request.lr is None else request.lr,
        warmup=0.2,
        momentum=0.9,
        weight_decay=5e-4,
        smoothing=0.1,
        size=size,
        shift=max(1, size // 8),
        mirror=data.mirror if request.mirror is None else request.mirror,
        precision=find_precision(request.precision, device),
        seed=request.seed,
    )


def _batch(count: int) -> int:
    """Pictures a step that leave a set of `count` at least 20 steps an epoch, 8 to 128."""
    twentieth = 1 << (max(count // 20, 1).bit_length() - 1)  # rounded down to a power of 2
    return max(8, min(64 if count < 20_000 else 128, twentieth))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A run, ready to begin or to go on."""

    name: str  # of the network, as it was asked for
    network: Network
    data: Data
    recipe: Recipe
    folder: RunFolder
    device: torch.device
    colours: Preprocessing | None  # that the network's weights were trained with
    notes: tuple[str, ...] = ()
    epochs: tuple[Epoch, ...] = ()  # that are done
    resumes: bool = False


def train(request: Request) -> tuple[Evaluation, Path]:
    """Trains a network on a data set and leaves a finished run folder.

    Returns:
        The last evaluation on the held-out pictures, and the folder.

    Raises:
        ValueError: an argument out of range, or a network that cannot take these pictures.
        ForebearError: data that cannot be used, or a folder in the way.
    """
    device = find_device(request.device)
    if request.network is not None:
        resolve(request.network, request.dialect)  # a wrong name is refused before data are read
    data = read_data(request.data)
    small = (request.size or data.side) <= SMALL
    name = request.network or ("paper/resnet20" if small else "torchvision/resnet18")
    table, dialect = resolve(name, request.dialect)
    recipe = default_recipe(data, request, norms=dialect.root_norm or dialect.final_norm)
    network = _create(table, dialect, data, recipe)
    stayed = _begin_with(network, request)
    out = request.out or _new_folder(f"{data.spec.partition(':')[0]}-{table.name}")
    note = f"random, as {request.weights} has none that fit: {', '.join(stayed)}"
    job = _Job(
        name=name,
        network=network,
        data=data,
        recipe=recipe,
        folder=RunFolder(out, replace=request.replace),
        device=device,
        colours=network.preprocessing if request.weights is not None else None,
        notes=(note,) if stayed else (),
    )
    return _run(job, request.threads)


def resume(
    path: Path, *, device: str = "auto", threads: int | None = None
) -> tuple[Evaluation, Path]:
    """Goes on with a run that broke off, after the last epoch that it finished.

    With the threads fixed, on one machine, the weights end as they would have without the break.

    Returns:
        The last evaluation on the held-out pictures, and the folder.

    Raises:
        RunError: no unfinished run, or one whose data have changed since.
    """
    folder = RunFolder(path, replace=True)
    settings, epochs = folder.read()
    try:
        recipe = Recipe(**settings["recipe"])
        table = table_from_dict(settings["table"])
        dialect = dialect_from_dict(settings["dialect"])
        colours = preprocessing_from_dict(settings["preprocessing"])
        name, spec = settings["network"], settings["data"]["spec"]
        fingerprint = settings["data"]["fingerprint"]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path}: its settings are not those of a run ({error}). Expected what forebear train "
            "wrote. Train it again with --replace."
        ) from error
    data = read_data(spec)
    if data.fingerprint != fingerprint:
        raise RunError(
            f"{path}: the pictures of {spec} are not those that the run began with. Expected the "
            "same. Restore them, or train again with --replace."
        )
    done = tuple(epochs)
    job = _Job(
        name=name,
        network=_create(table, dialect, data, recipe),
        data=data,
        recipe=recipe,
        folder=folder,
        device=find_device(device),
        colours=colours,
        notes=(f"going on after epoch {done[-1].epoch}" if done else "going on",),
        epochs=done,
        resumes=True,
    )
    return _run(job, threads)


def _create(table: Table, dialect: Dialect, data: Data, recipe: Recipe) -> Network:
    network = create(
        table,
        dialect=dialect,
        num_classes=len(data.classes),
        in_channels=data.channels,
        generator=torch.Generator().manual_seed(recipe.seed),
    )
    check_size(network.plan, recipe.size, recipe.size)
    return network


def _run(job: _Job, threads: int | None) -> tuple[Evaluation, Path]:
    network, data, recipe, folder = job.network, job.data, job.recipe, job.folder
    epochs, measured, title = list(job.epochs), None, f"{job.name} on {data.spec}"
    with (
        closing(Threads(job.device, threads)) as chosen,
        Display(recipe.epochs, len(data.train)) as display,
    ):
        display.say(
            f"{title}: {len(data.train):,} pictures to train on, "
            f"{len(data.val):,} held out ({data.split}), {len(data.classes)} classes, "
            f"{recipe.size} x {recipe.size} pixels, {recipe.precision} on {job.device}"
        )
        for note in job.notes:
            display.say(note)
        if not can_draw():
            display.say("no curves.png: run pip install 'forebear[plots]' for pictures of runs")
        training, held_out = _batches(data, recipe, job.device, display, job.colours)
        if job.resumes:
            folder.keep(epochs)
        else:
            folder.begin(_settings(job, held_out.rule))
        network.to(job.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        rounds = fit(
            network,
            training,
            held_out,
            data.classes,
            recipe,
            chosen,
            display.glance,
            checkpoint=folder.checkpoint,
            resume=job.resumes,
        )
        try:
            for epoch, evaluation in rounds:
                measured = evaluation
                epochs.append(epoch)
                folder.epoch(epoch)
                display.epoch(epoch)
                if can_draw():
                    draw_curves(epochs, folder.path / "curves.png", title)
        except KeyboardInterrupt:
            display.say(f"to go on after the last whole epoch: {_GO_ON} {folder.path}")
            raise
        if measured is None:  # all epochs were done before the break
            measured = evaluate(network, held_out, data.classes, precision=recipe.precision)
    if can_draw():
        draw_confusion(measured, folder.path / "confusion.png", title)
    seconds = epochs[-1].seconds if epochs else 0.0
    metrics = _metrics(measured, recipe, seconds, data)
    network.card = Card(classes=data.classes, preprocessing=held_out.rule, metrics=metrics)
    folder.weights(network)
    return measured, folder.path


def _metrics(measured: Evaluation, recipe: Recipe, seconds: float, data: Data) -> dict[str, Any]:
    """What the saved network says of itself."""
    return {
        "held_out_accuracy": measured.top1,
        "held_out_top5": measured.top5,
        "held_out_loss": measured.loss,
        "held_out_images": measured.images,
        "seconds": seconds,
        "epochs": recipe.epochs,
        "data": data.spec,
        "fingerprint": data.fingerprint,
    }


def _batches(
    data: Data,
    recipe: Recipe,
    device: torch.device,
    display: Display,
    colours: Preprocessing | None,
) -> tuple[Batches, Batches]:
    """Training and held-out pictures, decoded when they fit in memory.

    `colours`: the order, scale, mean and std that the network's weights were trained with.
    """
    # A photograph is kept with an eighth more around the square, for the square to move in.
    size = recipe.size
    side = size if data.side <= size else round(size * 8 / 7)
    rule = replace(colours or TORCHVISION, size=size, side=side)
    rule = replace(rule, resize="shorter", central=1.0, interpolation="bilinear")
    own = data.channels == 1 and rule.channels != 1
    if own:
        rule = replace(rule, order="L", mean=(0.0,), std=(1.0,))
    stores = (
        Store(data.train, replace(rule, size=side), reduced=True),
        Store(data.val, rule),
    )
    total = sum(len(store) for store in stores)
    stores[0].fill(lambda done, _: display.decoding(done, total))
    stores[1].fill(lambda done, _: display.decoding(len(stores[0]) + done, total))
    if own:
        rule = _with_own_colours(rule, stores[0])
    training, held_out = (
        Batches(store=store, labels=part.labels, rule=rule, batch=batch, device=device)
        for store, part, batch in zip(
            stores, (data.train, data.val), (recipe.batch, max(recipe.batch, 64)), strict=True
        )
    )
    return training, held_out


def _with_own_colours(rule: Preprocessing, store: Store) -> Preprocessing:
    """The mean and the spread of grey pictures, which ImageNet's colours do not fit."""
    sample = store[np.arange(0, len(store), max(1, len(store) // 2000))] * rule.scale
    mean, std = (round(float(value), 4) for value in (sample.mean(), sample.std()))
    return replace(rule, mean=(mean,), std=(max(std, 1e-3),))


def _begin_with(network: Network, request: Request) -> list[str]:
    """Fills the network from a checkpoint, if one is given; the arrays that stayed random.

    Raises:
        WeightsError: the checkpoint does not fit, or without `partial` not all of it.
    """
    path = request.weights
    if path is None:
        return []
    row = by_digest(path) if path.is_file() else None
    if row is not None:
        network.card = Card(preprocessing=row.preprocessing)
    elif path.is_file() and describes_itself(path):
        network.card = Card(preprocessing=load_file(path).preprocessing)
    with home_arrays(path) as arrays:
        return load_arrays(network, arrays, partial=request.partial)


def _new_folder(name: str) -> Path:
    """runs/NAME, or the first of runs/NAME-2, runs/NAME-3, ... that is free."""
    folder, number = Path("runs") / name, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _settings(job: _Job, rule: Preprocessing) -> dict[str, Any]:
    data, recipe = job.data, job.recipe
    return {
        "table": table_to_dict(job.network.table),
        "dialect": asdict(job.network.dialect),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "network": job.name,
        "data": {
            "spec": data.spec,
            "classes": data.classes,
            "train": len(data.train),
            "held_out": len(data.val),
            "split": data.split,
            "fingerprint": data.fingerprint,
        },
        "recipe": asdict(recipe),
        "preprocessing": asdict(rule),
        "machine": {
            "device": _device_name(job.device),
            "threads": torch.get_num_threads(),
            "system": platform.platform(),
        },
        "versions": {
            "forebear": forebear.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
