"""Pictures to batches, as a recipe wants them: for training, and held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from forebear.data.augment import Augment
from forebear.data.batches import Batches, Order
from forebear.data.features import Features
from forebear.data.pictures import Data, Pictures
from forebear.data.store import Bad, Store
from forebear.network.network import Network
from forebear.tables.preprocessing import TORCHVISION, Preprocessing
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.settle import typical_side
from forebear.tasks.world import World

Progress = Callable[[int, int], None]  # told the pictures done, and of all


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How pictures are read."""

    bad: Bad = "fail"  # or skip
    workers: int | None = None  # threads; 0: between the steps; None: all processors


def order_of(recipe: Recipe) -> Order:
    """The order and the motion of a settled recipe."""
    names = (
        "crop", "shift", "border", "scale", "ratio", "mirror", "policy", "operations", "magnitude",
        "magnitude_std", "jitter", "lighting", "cutout", "erase",
    )  # fmt: skip
    rule = Augment(**{name: getattr(recipe, name) for name in names})
    return Order(augment=rule, seed=recipe.seed, repeats=recipe.repeats)


def rules(
    data: Data, recipe: Recipe, colours: Preprocessing | None
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
    data: Data,
    recipe: Recipe,
    device: torch.device,
    *,
    colours: Preprocessing | None,
    decoding: Decoding,
    world: World,
    progress: Progress,
) -> tuple[Batches, Batches]:
    """Training and held-out pictures, decoded when they fit in memory.

    Raises:
        DataError: a picture that cannot be decoded.
    """
    moving, still = rules(data, recipe, colours)
    first = Store(
        data.train,
        replace(moving, size=moving.side),
        reduced=True,
        workers=decoding.workers,
        bad=decoding.bad,
    )
    total = len(data.train) + len(data.val)
    world.in_turn(lambda: first.fill(lambda done, _: progress(done, total)))
    if still.order == "L" and colours is None:
        mean, std = _own_colours(first, still.scale)
        moving, still = (replace(rule, mean=mean, std=std) for rule in (moving, still))
    training = Batches(
        store=first,
        labels=data.train.labels,
        rule=moving,
        batch=recipe.batch,
        device=device,
        rank=world.rank,
        ranks=world.size,
    )

    def show(done: int, _: int) -> None:
        progress(len(data.train) + done, total)

    held_out = measured(data.val, still, training, decoding=decoding, world=world, progress=show)
    return training, held_out


def measured(
    pictures: Pictures,
    rule: Preprocessing,
    training: Batches,
    *,
    decoding: Decoding,
    world: World,
    progress: Progress | None = None,
) -> Batches:
    """Pictures to measure on, where and in as large batches as the training ones.

    Raises:
        DataError: a picture that cannot be decoded.
    """
    store = Store(pictures, rule, workers=decoding.workers, bad=decoding.bad)
    world.in_turn(lambda: store.fill(progress))
    return replace(
        training, store=store, labels=pictures.labels, rule=rule, batch=max(training.batch, 64)
    )


@torch.no_grad()
def features(network: Network, part: Batches, recipe: Recipe) -> Features:
    """What the logits of a frozen network start from, for every picture of a part.

    Pictures that may be mirrored are seen both ways. The middle of each is taken.
    """
    *body, _ = network.trunk  # the last is the logits
    modules = [network.root, *(network.get_submodule(name) for name in body)]
    frozen = nn.Sequential(*modules).eval()
    ways = 2 if recipe.mirror != "none" else 1
    found: list[list[Tensor]] = [[] for _ in range(ways)]
    alone = replace(part, rank=0, ranks=1)
    for images, _ in alone.in_order():
        with torch.autocast(part.device.type, torch.bfloat16, recipe.precision == "bf16"):
            for way, kept in enumerate(found):
                kept.append(frozen(images.flip(3) if way else images).float())
    return Features(
        values=torch.stack([torch.cat(kept) for kept in found]),
        labels=part.labels,
        batch=part.batch,
        device=part.device,
        rank=part.rank,
        ranks=part.ranks,
    )


def _own_colours(store: Store, scale: float) -> tuple[tuple[float], tuple[float]]:
    """The mean and the spread of grey pictures, which ImageNet's colours do not fit."""
    sample = store[store.indices[:: max(1, len(store) // 2000)]] * scale
    mean, std = (round(float(value), 4) for value in (sample.mean(), sample.std()))
    return (mean,), (max(std, 1e-3),)
