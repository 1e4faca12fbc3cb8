"""From what was asked for to a recipe with nothing left open that the data decide."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from forebear.data.dataset import Dataset, Images
from forebear.tasks.machine.device import find_precision
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.recipe_files import read_recipe, with_sets
from forebear.tasks.train.request import TrainConfig

PHOTOGRAPH = 96  # pixels, from which random parts teach more than shifts do
FEW_STEPS = 300  # that a run should have, however few the pictures (BiT-HyperRule's least is 500)


def resolve_recipe(
    request: TrainConfig, data: Dataset, *, norms: bool, device: torch.device, side: int = 0
) -> Recipe:
    """The recipe of a request with every choice made that the data and the machine decide.

    Args:
        request: a recipe's name and what is set in its place.
        data: whose number and size of pictures decide.
        norms: whether the network has any.
        device: decides the precision.
        side: pixels that the weights to begin with were trained at; 0: not known, or none.
    """
    count = len(data.train)
    recipe = asked(request, data, norms=norms)
    size = recipe.size or side or min(data.side, typical_side(data.train))
    batch = recipe.batch or (batch_for(count) if recipe.batch_norm != "auto" else _few(count))
    epochs = recipe.epochs or (0 if recipe.iterations else epochs_for(count, batch))
    chosen: dict[str, Any] = {
        "size": size,
        "batch": batch,
        "epochs": epochs,
        "eval_size": recipe.eval_size or size,
        "crop": ("resized" if size >= PHOTOGRAPH else "shift")
        if recipe.crop == "auto"
        else recipe.crop,
        "shift": max(1, size // 8) if recipe.shift < 0 else recipe.shift,
        "mirror": ("random" if data.mirror else "none")
        if recipe.mirror == "auto"
        else recipe.mirror,
        "batch_norm": ("frozen" if batch < 16 else "own")
        if recipe.batch_norm == "auto"
        else recipe.batch_norm,
        "precision": find_precision(recipe.precision, device),
    }
    return replace(recipe, **chosen)


def asked(request: TrainConfig, data: Dataset, *, norms: bool) -> Recipe:
    """The recipe with what was set in its place; what it leaves to the data is still open.

    Args:
        request: a recipe's name and what is set in its place.
        data: whose number of pictures decides on the rate, where no recipe is named.
        norms: whether the network has any.
    """
    if request.recipe is None:
        recipe = with_sets(_suited(data, request, norms=norms), request.sets)
    else:
        recipe = read_recipe(request.recipe, request.sets)
    if request.epochs is not None:
        recipe = lengthened(recipe, request.epochs)
    given: dict[str, Any] = {
        name: getattr(request, name) for name in ("batch", "lr", "size", "seed", "precision")
    }
    recipe = replace(recipe, **{name: value for name, value in given.items() if value is not None})
    if request.mirror is not None:
        recipe = replace(recipe, mirror="random" if request.mirror else "none")
    return recipe


def _suited(data: Dataset, request: TrainConfig, *, norms: bool) -> Recipe:
    """A recipe for a first try at a data set, whatever it is: "default", or SGD where that fails.

    Muon brings filters to one norm, which networks without norms cannot bear, and which would undo
    what a checkpoint's filters have learned. SGD's rate is 0.1 for 128 pictures (He et al. 2015,
    section 4.2), in proportion to the batch (Goyal et al. 2017), and a tenth of it for networks
    without norms (Krizhevsky 2014).
    """
    recipe = read_recipe("default")
    if norms and request.weights is None:
        return recipe
    batch = request.batch or batch_for(len(data.train))
    return replace(
        recipe,
        batch=batch,
        optimizer="sgd",
        lr=(0.1 if norms else 0.01) * batch / 128,
        momentum=0.9,
        weight_decay=5e-4,
        rescale=False,
    )


def batch_for(count: int) -> int:
    """Pictures a step that leave a set of `count` at least 20 steps an epoch, 8 to 128."""
    twentieth = 1 << (max(count // 20, 1).bit_length() - 1)  # rounded down to a power of 2
    return max(8, min(64 if count < 20_000 else 128, twentieth))


def _few(count: int) -> int:
    """For a network that is trained already: an eighth of the set, at most 64."""
    return max(4, min(64, count // 8))


def epochs_for(count: int, batch: int) -> int:
    """Passes over a set for a network that is trained already: fewer, the more pictures."""
    passes = 40 if count < 10_000 else 20 if count < 100_000 else 10
    return max(passes, math.ceil(FEW_STEPS * batch / count))


def lengthened(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe over another number of epochs, its schedule stretched along.

    Raises:
        ValueError: fewer epochs than one.
    """
    if epochs < 1:
        raise ValueError(f"epochs={epochs}: expected 1 or more.")
    scale = epochs / recipe.length if recipe.length else 1.0
    head = min(recipe.head_epochs, epochs // 2)
    return replace(
        recipe,
        epochs=epochs,
        iterations=0,
        warmup=min(recipe.warmup * scale, (epochs - head) / 4),
        milestones=tuple(time * scale for time in recipe.milestones),
        head_epochs=head,
    )


def typical_side(pictures: Images) -> int:
    """The median of the shorter sides of nine pictures, in pixels."""
    places = np.unique(np.linspace(0, len(pictures) - 1, 9).astype(int))
    return int(statistics.median(min(pictures.image(int(place)).size) for place in places))
