"""The training and validation images of a run, as its recipe wants them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from forebear.data.augment.config import Augment
from forebear.data.choices import Bad
from forebear.data.dataset import Dataset, Images, typical_side
from forebear.data.decoder import Indices
from forebear.data.decoding_threads import DecodingThreads
from forebear.data.feature_loader import FeatureLoader
from forebear.data.images.preprocess import covered
from forebear.data.loader import Loader, Order
from forebear.data.pixel_store import PixelStore
from forebear.data.reading import Reading
from forebear.data.strata import stratified
from forebear.hardware import processor
from forebear.network.network import Network
from forebear.settings import settings
from forebear.tables.preprocessing import TORCHVISION, Preprocessing, Resize
from forebear.tasks.machine.distributed import World
from forebear.tasks.train.out_of_memory import explain_evaluation
from forebear.tasks.train.recipe import Recipe

MIN_EVALUATION_BATCH = 64  # images
_RESIZES: dict[str, Resize] = {"crop": "shorter", "pad": "pad", "squash": "square"}
OnProgress = Callable[[int, int], None]  # takes the number of decoded images, and of all


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How images are decoded."""

    bad: Bad = "fail"  # what to do with images that cannot be decoded
    workers: int | None = None  # threads; 0: decode between the steps; None: one per core


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How much is read before the training of a run on a budget."""

    until: float  # time.perf_counter() at which reading before the training ends
    least: int  # images that are read even if that takes longer


def order_of(recipe: Recipe) -> Order:
    """Returns the order of the training images and their augmentation.

    Args:
        recipe: Resolved.
    """
    rule = Augment(**{name: getattr(recipe, name) for name in settings(Augment)})
    return Order(
        augment=rule,
        seed=recipe.seed,
        repeats=recipe.repeated_augmentation,
        balanced=recipe.balance == "sampler",
    )


def preprocessing_of(
    data: Dataset, recipe: Recipe, colours: Preprocessing | None
) -> tuple[Preprocessing, Preprocessing]:
    """Returns the preprocessing of training and of validation images.

    If images are larger than the input size, a margin is kept for random crops: an eighth, or a
    quarter if the crops are resized.

    Args:
        data: The size of its images matters.
        recipe: Resolved.
        colours: Channel order, scale, mean and std that the network's weights were trained with.
    """
    height, width = recipe.shape
    typical = typical_side(data.train, width / height)
    colours = colours or TORCHVISION
    rule = replace(
        colours,
        size=height,
        width=width,
        side=height,
        resize=_RESIZES[recipe.resize],
        central=1.0,
        interpolation="bilinear",
    )
    if data.channels == 1 and rule.channels != 1:
        rule = replace(rule, order="L", mean=(0.0,), std=(1.0,))
    elif data.channels not in (1, 3) and rule.channels != data.channels:
        count = data.channels
        rule = replace(rule, order="any", mean=(0.0,) * count, std=(1.0,) * count)

    if recipe.resize != "crop":  # the whole image is kept, so that there is no margin
        return rule, replace(rule, size=recipe.eval_size, side=recipe.eval_size)

    def side(size: int, margin: float) -> int:
        return max(size, min(typical, round(size * margin)))

    kept = side(recipe.size, 1.25 if recipe.crop == "resized" else 8 / 7)
    shown = recipe.eval_side or side(recipe.eval_size, 8 / 7)
    return (
        replace(rule, side=kept),
        replace(rule, size=recipe.eval_size, side=max(shown, recipe.eval_size)),
    )


def input_deviation(colours: Preprocessing) -> float:
    """Returns the standard deviation of the inputs that a network in colour was trained with.

    It is that of photographs: ImageNet's has been measured as TORCHVISION's std. Inputs of other
    channels get the same one, so that the first convolution has the range it was trained for.

    Args:
        colours: Its preprocessing.
    """
    natural = sum(TORCHVISION.std) / TORCHVISION.channels / TORCHVISION.scale
    return round(natural * abs(colours.scale) / (sum(colours.std) / colours.channels), 4)


def _stored(rule: Preprocessing) -> Preprocessing:
    """Returns the preprocessing of stored images: that of training, with the margin for crops."""
    height, width = covered(rule)
    return rule if rule.resize != "shorter" else replace(rule, size=height, width=width)


def load_images(
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
    """Returns the training and validation images, decoded if they fit in memory.

    Args:
        data: The images.
        recipe: Resolved.
        device: Where the batches are used.
        colours: See `preprocessing_of`.
        decoding: How images are decoded.
        world: The processes that share every batch.
        progress: Called while images are decoded.
        limit: Only some of the training images are decoded here; `reading` of the loader knows
            which. Validation images are then decoded on first access.

    Raises:
        DataError: An image cannot be decoded.
    """
    augmented, fixed = preprocessing_of(data, recipe, colours)
    store = PixelStore(
        data.train,
        _stored(augmented),
        reduced=True,
        workers=decoding.workers,
        bad=decoding.bad,
    )
    total = len(data.train) + len(data.val)
    reading = None
    if limit is None:
        world.in_turn(lambda: store.fill(lambda done, _: progress(done, total)))
    else:
        reading = _read_first(store, data.train, recipe.seed, limit, decoding, progress)
    known = colours is not None and colours.order == fixed.order
    if fixed.order in ("L", "any") and not known:
        there = store.indices if reading is None else np.sort(reading.available())
        mean, std = _own_colours(store, there, fixed.scale)
        std = tuple(one / input_deviation(colours or TORCHVISION) for one in std)
        augmented, fixed = (replace(rule, mean=mean, std=std) for rule in (augmented, fixed))
    training = Loader(
        store=store,
        labels=data.train.labels,
        rule=augmented,
        batch=recipe.batch,
        device=device,
        rank=world.rank,
        ranks=world.size,
        reading=reading,
    )
    if limit is not None:
        return training, lazy_evaluation_images(
            data.val, fixed, training, decoding=decoding, until=limit.until
        )

    def show(done: int, _: int) -> None:
        progress(len(data.train) + done, total)

    validation = evaluation_images(
        data.val, fixed, training, decoding=decoding, world=world, progress=show
    )
    return training, validation


def evaluation_images(
    images: Images,
    rule: Preprocessing,
    training: Loader,
    *,
    decoding: Decoding,
    world: World,
    progress: OnProgress | None = None,
) -> Loader:
    """Returns images to evaluate on, decoded if they fit in memory.

    Args:
        images: Of the validation or test set.
        rule: Their preprocessing.
        training: Its device and batch size are used.
        decoding: How images are decoded.
        world: The processes that share the evaluation.
        progress: Called while images are decoded.

    Raises:
        DataError: An image cannot be decoded.
    """
    store = PixelStore(images, rule, workers=decoding.workers, bad=decoding.bad)
    world.in_turn(lambda: store.fill(progress))
    return replace(
        training,
        store=store,
        labels=images.labels,
        rule=rule,
        batch=max(training.batch, MIN_EVALUATION_BATCH),
    )


def _read_first(
    store: PixelStore,
    images: Images,
    seed: int,
    limit: Limit,
    decoding: Decoding,
    progress: OnProgress,
) -> Reading:
    """Reads as many images as the limit allows, with the classes in proportion.

    Images that do not fit in memory are decoded on every access, unless the disk cache has them.
    """
    workers = processor().cores if decoding.workers is None else decoding.workers
    with DecodingThreads(workers, low=False) as threads:
        store.recall(threads, lambda: time.perf_counter() > limit.until)
        reading = Reading(store, stratified(images.labels, seed))
        reading.first(threads, limit.until, limit.least, progress)
    return reading


def lazy_evaluation_images(
    images: Images,
    rule: Preprocessing,
    training: Loader,
    *,
    decoding: Decoding,
    until: float,
) -> Loader:
    """Returns images to evaluate on, each decoded on first access and then kept in memory.

    Their order is random but fixed, with the classes in proportion from the start. An evaluation
    that ends early thus still stands for the whole set.

    Args:
        images: Of the validation or test set.
        rule: Their preprocessing.
        training: Its device and batch size are used.
        decoding: How images are decoded.
        until: time.perf_counter() until which the disk cache may be searched for them.

    Raises:
        DataError: The disk cache names an image that cannot be decoded.
    """
    store = PixelStore(images, rule, workers=decoding.workers, bad=decoding.bad, low=False)
    workers = processor().cores if decoding.workers is None else decoding.workers
    with DecodingThreads(workers, low=False) as threads:
        store.recall(threads, lambda: time.perf_counter() > until)
    store.open()
    return replace(
        training,
        store=store,
        labels=images.labels,
        rule=rule,
        batch=max(training.batch, MIN_EVALUATION_BATCH),
        reading=None,
        shown=stratified(images.labels, 0),
    )


@torch.no_grad()
def features(network: Network, part: Loader, recipe: Recipe) -> FeatureLoader:
    """Returns the input of the logits of a frozen network, for every image.

    The centre crop of each image is used, and its mirror image too if the recipe flips images.

    Args:
        network: Only its logits are trained.
        part: Training or validation images.
        recipe: Resolved.

    Raises:
        RunError: A batch does not fit in memory.
    """
    *body, _ = network.trunk  # the last is the logits
    modules = [network.root, *(network.get_submodule(name) for name in body)]
    frozen = nn.Sequential(*modules).eval()
    ways = 2 if recipe.mirror != "none" else 1
    found: list[list[Tensor]] = [[] for _ in range(ways)]
    classes: list[Tensor] = []  # none for skipped images
    alone = replace(part, rank=0, ranks=1)
    with explain_evaluation(frozen, part, recipe.precision, least=MIN_EVALUATION_BATCH):
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
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of each channel of images that are not in RGB."""
    sample = store.take(there[:: max(1, len(there) // 2000)])[1] * scale
    mean, std = (
        tuple(round(float(value), 4) for value in values)
        for values in (sample.mean((0, 1, 2)), sample.std((0, 1, 2)))
    )
    return mean, tuple(max(value, 1e-3) for value in std)
