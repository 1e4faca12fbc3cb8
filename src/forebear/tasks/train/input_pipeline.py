"""Pictures to batches, as a recipe wants them: for training, and held out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from forebear.data.augment.config import Augment
from forebear.data.dataset import Dataset, Images, typical_side
from forebear.data.feature_loader import FeatureLoader
from forebear.data.loader import Loader, Order
from forebear.data.pixel_store import Bad, DecodingThreads, Indices, PixelStore
from forebear.data.reading import Reading
from forebear.data.strata import stratified
from forebear.hardware import processor
from forebear.network.network import Network
from forebear.settings import settings
from forebear.tables.preprocessing import TORCHVISION, Preprocessing
from forebear.tasks.machine.distributed import World
from forebear.tasks.train.out_of_memory import explain_evaluation
from forebear.tasks.train.recipe import Recipe

EVALUATED = 64  # images at a time that an evaluation takes at least
OnProgress = Callable[[int, int], None]  # told the pictures done, and of all


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How pictures are read."""

    bad: Bad = "fail"  # or skip
    workers: int | None = None  # threads; 0: between the steps; None: all processors


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How much is read before the training, where time is limited."""

    until: float  # time.perf_counter() at which reading before the training ends
    least: int  # images that are read however long that takes


def order_of(recipe: Recipe) -> Order:
    """The order and the motion of a settled recipe."""
    rule = Augment(**{name: getattr(recipe, name) for name in settings(Augment)})
    return Order(augment=rule, seed=recipe.seed, repeats=recipe.repeated_augmentation)


def rules(
    data: Dataset, recipe: Recipe, colours: Preprocessing | None
) -> tuple[Preprocessing, Preprocessing]:
    """What is kept of a training picture and of a held-out one.

    Where photographs are larger than the squares wanted, a margin is kept around for the random
    part to move in: an eighth, or a quarter where it is resized.

    Args:
        data: whose pictures' size decides.
        recipe: settled.
        colours: the order, scale, mean and std that the network's weights were trained with.
    """
    typical = typical_side(data.train)
    rule = replace(colours or TORCHVISION, resize="shorter", central=1.0, interpolation="bilinear")
    if data.channels == 1 and rule.channels != 1:
        rule = replace(rule, order="L", mean=(0.0,), std=(1.0,))

    def side(size: int, margin: float) -> int:
        return max(size, min(typical, round(size * margin)))

    kept = side(recipe.size, 1.25 if recipe.crop == "resized" else 8 / 7)
    shown = recipe.eval_side or side(recipe.eval_size, 8 / 7)
    return (
        replace(rule, size=recipe.size, side=kept),
        replace(rule, size=recipe.eval_size, side=max(shown, recipe.eval_size)),
    )


def batches(
    data: Dataset,
    recipe: Recipe,
    device: torch.device,
    *,
    colours: Preprocessing | None,
    decoding: Decoding,
    world: World,
    progress: OnProgress,
    limit: Limit | None = None,
) -> tuple[Loader, Loader]:
    """Training and held-out pictures, decoded when they fit in memory.

    With a limit only some of the training images are decoded here; `reading` of the batches says
    which. Held-out images are then decoded when they are needed.

    Raises:
        DataError: a picture that cannot be decoded.
    """
    moving, still = rules(data, recipe, colours)
    first = PixelStore(
        data.train,
        replace(moving, size=moving.side),
        reduced=True,
        workers=decoding.workers,
        bad=decoding.bad,
    )
    total = len(data.train) + len(data.val)
    reading = None
    if limit is None:
        world.in_turn(lambda: first.fill(lambda done, _: progress(done, total)))
    else:
        reading = _read_first(first, data.train, recipe.seed, limit, decoding, progress)
    if still.order == "L" and colours is None:
        there = first.indices if reading is None else np.sort(reading.available())
        mean, std = _own_colours(first, there, still.scale)
        moving, still = (replace(rule, mean=mean, std=std) for rule in (moving, still))
    training = Loader(
        store=first,
        labels=data.train.labels,
        rule=moving,
        batch=recipe.batch,
        device=device,
        rank=world.rank,
        ranks=world.size,
        reading=reading,
    )
    if limit is not None:
        return training, opened(data.val, still, training, decoding=decoding, until=limit.until)

    def show(done: int, _: int) -> None:
        progress(len(data.train) + done, total)

    held_out = measured(data.val, still, training, decoding=decoding, world=world, progress=show)
    return training, held_out


def measured(
    pictures: Images,
    rule: Preprocessing,
    training: Loader,
    *,
    decoding: Decoding,
    world: World,
    progress: OnProgress | None = None,
) -> Loader:
    """Pictures to measure on, where and in as large batches as the training ones.

    Raises:
        DataError: a picture that cannot be decoded.
    """
    store = PixelStore(pictures, rule, workers=decoding.workers, bad=decoding.bad)
    world.in_turn(lambda: store.fill(progress))
    return replace(
        training,
        store=store,
        labels=pictures.labels,
        rule=rule,
        batch=max(training.batch, EVALUATED),
    )


def _read_first(
    store: PixelStore,
    pictures: Images,
    seed: int,
    limit: Limit,
    decoding: Decoding,
    progress: OnProgress,
) -> Reading:
    """A store of which as many images are read as the limit allows, of each class its share.

    Images that do not fit in memory are decoded when they are needed, unless the disk has them.
    """
    workers = processor().cores if decoding.workers is None else decoding.workers
    with DecodingThreads(workers, low=False) as threads:
        store.recall(threads, lambda: time.perf_counter() > limit.until)
        reading = Reading(store, stratified(pictures.labels, seed))
        reading.first(threads, limit.until, limit.least, progress)
    return reading


def opened(
    pictures: Images,
    rule: Preprocessing,
    training: Loader,
    *,
    decoding: Decoding,
    until: float,
) -> Loader:
    """As `measured`, but images are decoded only when they are needed, and then stay in memory.

    They come in a fixed random order that holds the classes in proportion from the start, so that
    every beginning of an evaluation stands for the whole.

    Args:
        pictures: to measure on.
        rule: what is kept of them.
        training: whose device and batch are taken.
        decoding: how they are read.
        until: time.perf_counter() until which the cache folder may be searched for them.

    Raises:
        DataError: the cache folder has them, and tells of one that cannot be decoded.
    """
    store = PixelStore(pictures, rule, workers=decoding.workers, bad=decoding.bad, low=False)
    workers = processor().cores if decoding.workers is None else decoding.workers
    with DecodingThreads(workers, low=False) as threads:
        store.recall(threads, lambda: time.perf_counter() > until)
    store.open()
    return replace(
        training,
        store=store,
        labels=pictures.labels,
        rule=rule,
        batch=max(training.batch, EVALUATED),
        reading=None,
        shown=stratified(pictures.labels, 0),
    )


@torch.no_grad()
def features(network: Network, part: Loader, recipe: Recipe) -> FeatureLoader:
    """What the logits of a frozen network start from, for every picture of a part.

    Pictures that may be mirrored are seen both ways. The middle of each is taken.

    Raises:
        RunError: a batch does not fit in memory.
    """
    *body, _ = network.trunk  # the last is the logits
    modules = [network.root, *(network.get_submodule(name) for name in body)]
    frozen = nn.Sequential(*modules).eval()
    ways = 2 if recipe.mirror != "none" else 1
    found: list[list[Tensor]] = [[] for _ in range(ways)]
    classes: list[Tensor] = []  # a picture that is skipped has none
    alone = replace(part, rank=0, ranks=1)
    with explain_evaluation(frozen, part, recipe.precision, least=EVALUATED):
        for images, labels in alone.in_order():
            classes.append(labels.cpu())
            with torch.autocast(part.device.type, torch.bfloat16, recipe.precision == "bf16"):
                for way, kept in enumerate(found):
                    kept.append(frozen(images.flip(3) if way else images).float())
    return FeatureLoader(
        values=torch.stack([torch.cat(kept) for kept in found]),
        labels=torch.cat(classes).numpy(),
        batch=part.batch,
        device=part.device,
        rank=part.rank,
        ranks=part.ranks,
    )


def _own_colours(
    store: PixelStore, there: Indices, scale: float
) -> tuple[tuple[float], tuple[float]]:
    """The mean and the spread of grey pictures, which ImageNet's colours do not fit."""
    sample = store.take(there[:: max(1, len(there) // 2000)])[1] * scale
    mean, std = (round(float(value), 4) for value in (sample.mean(), sample.std()))
    return (mean,), (max(std, 1e-3),)
