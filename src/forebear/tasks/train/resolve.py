"""From what the caller asked for to the recipe of one run, and who chose each of its values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch

from forebear.data.dataset import Dataset, typical_side
from forebear.tasks.machine.device import find_precision
from forebear.tasks.train.balance import choose_balance
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.recipe_files import read_recipe_fields
from forebear.tasks.train.request import TrainConfig

_FLAGS = ("epochs", "batch", "lr", "resize", "balance", "seed", "precision")
Origin = Literal[
    "user",
    "recipe",
    "default",
    "weights",
    "network",
    "data",
    "machine",
    "budget",
    "measurement",
    "unknown",
]

PHOTOGRAPH = 96  # pixels, from which random crops teach more than shifts do
COLOURS = (1, 3)  # channels of images whose colours augmentation can change
HEAD_SCALE = 0.25  # of logits that were fitted with other statistics than those of the batch
FEW_STEPS = 300  # steps that a run should have, however few images (BiT-HyperRule: at least 500)


@dataclass(frozen=True, kw_only=True)
class ResolvedRecipe:
    """A recipe, and for each of its fields who chose the value.

    The origins are: user (a flag or an argument), recipe (its file), default (of the field),
    weights (the size of the initial checkpoint), network, data, machine, budget and measurement
    (--recipe auto). The origin is unknown in a run that a version before 0.2 began.
    """

    recipe: Recipe
    origins: Mapping[str, Origin]

    def choose(self, by: Origin, **values: Any) -> ResolvedRecipe:
        """Returns the recipe with other values; those that change have a new origin.

        Raises:
            ValueError: A value is out of range.
        """
        return self.become(by, replace(self.recipe, **values))

    def suggest(self, by: Origin, **values: Any) -> ResolvedRecipe:
        """Returns the recipe with other values in the fields that the user has not set.

        Raises:
            ValueError: A value is out of range.
        """
        free = {name: value for name, value in values.items() if self.origins[name] != "user"}
        return self.choose(by, **free)

    def become(self, by: Origin, recipe: Recipe) -> ResolvedRecipe:
        """Returns another recipe; the fields whose value differs have a new origin."""
        changed = {
            one.name: by
            for one in fields(recipe)
            if getattr(recipe, one.name) != getattr(self.recipe, one.name)
        }
        return ResolvedRecipe(recipe=recipe, origins={**self.origins, **changed})


def read_config(
    config: TrainConfig, *, checkpoint_size: tuple[int, int] = (0, 0)
) -> ResolvedRecipe:
    """Returns the recipe with what the user has set; choices left to the data are still open.

    Args:
        config: Names a recipe (the default one if None), and what replaces its values.
        checkpoint_size: Height and width in pixels that the initial weights were trained at; 0 if
            they are not known.

    Raises:
        ValueError: An unknown recipe, or a value that does not fit its field.
        ForebearError: A file that holds no recipe.
    """
    recipe, from_file, from_sets = read_recipe_fields(config.recipe or "default", config.sets)
    origins: dict[str, Origin] = {one.name: "default" for one in fields(recipe)}
    if config.epochs is not None:
        recipe = lengthened(recipe, config.epochs)
    given = dict(_overrides(config))
    recipe = replace(recipe, **given)
    origins.update(dict.fromkeys(from_file, "recipe"))
    origins.update(dict.fromkeys([*from_sets, *given], "user"))
    asked = ResolvedRecipe(recipe=recipe, origins=origins)
    if not recipe.size and checkpoint_size[0]:
        height, width = checkpoint_size
        return asked.choose("weights", size=height, width=0 if width == height else width)
    return asked


def _overrides(config: TrainConfig) -> Iterator[tuple[str, Any]]:
    """Yields the recipe's fields that have a flag of their own, if the flag is given."""
    if config.size is not None:
        height, width = (config.size, 0) if isinstance(config.size, int) else config.size
        yield from {"size": height, "width": width}.items()
    for name in _FLAGS:
        value = getattr(config, name)
        if value is not None:
            yield name, value
    if config.mirror is not None:
        yield "mirror", "random" if config.mirror else "none"


def resolve_recipe(
    asked: ResolvedRecipe,
    config: TrainConfig,
    data: Dataset,
    *,
    norms: bool,
    device: torch.device,
) -> ResolvedRecipe:
    """Returns the recipe with every choice made that network, data set and machine determine.

    Args:
        asked: Result of `read_config`; 0, "auto" and -1 mark open choices.
        config: What the caller asked for.
        data: Number, size and kind of its images make the choices.
        norms: Whether the network has norms.
        device: Determines the precision.
    """
    if data.multi_label:
        asked = _with_labels(asked)
    if config.recipe is None and (config.weights is not None or not norms):
        asked = _with_sgd(asked, data, norms=norms)
    recipe, count = asked.recipe, len(data.train)
    _refuse_colours(recipe, data.channels)
    size = input_size(recipe, data)
    batch = recipe.batch or (batch_for(count) if recipe.batch_norm != "auto" else _few(count))
    epochs = recipe.epochs or (0 if recipe.iterations else epochs_for(count, batch))
    chosen: dict[str, Any] = {"size": size, "batch": batch, "epochs": epochs}
    chosen["eval_size"] = recipe.eval_size or size
    if recipe.crop == "auto" or (recipe.resize != "crop" and asked.origins["crop"] != "user"):
        chosen["crop"] = _crop(recipe, size, data)
    if recipe.shift < 0:
        chosen["shift"] = max(1, size // 8)
    if recipe.mirror == "auto":
        chosen["mirror"] = "random" if data.mirror else "none"
    if recipe.policy == "auto":
        mirrored = chosen.get("mirror", recipe.mirror) != "none"
        chosen["policy"] = "randaugment" if mirrored and data.channels in COLOURS else "none"
    if recipe.balance == "auto":
        chosen["balance"] = choose_balance(data.train.labels)
    if recipe.batch_norm == "auto":
        chosen["batch_norm"] = "frozen" if batch < 16 else "own"
    if recipe.head_scale == 0:
        frozen = chosen.get("batch_norm", recipe.batch_norm) == "frozen"
        chosen["head_scale"] = HEAD_SCALE if norms and not frozen and not data.multi_label else 1.0
    resolved = asked.choose("data", **chosen)
    if recipe.precision == "fp32-strict":
        return resolved
    return resolved.choose("machine", precision=find_precision(recipe.precision, device))


def _with_labels(asked: ResolvedRecipe) -> ResolvedRecipe:
    """Returns the recipe with the loss of multi-label images.

    Raises:
        ValueError: The user has set what does not fit such images.
    """
    recipe, set_by = asked.recipe, asked.origins
    if recipe.loss == "ce" and set_by["loss"] == "user":
        raise ValueError(
            "loss='ce': the images are multi-label, and cross-entropy is of one class an image. "
            "Expected 'bce'. Leave it out."
        )
    if recipe.balance == "sampler":
        raise ValueError(
            "--balance sampler: the images are multi-label, and an image with a rare label mostly "
            "has frequent ones too, so that no sampler makes them equally frequent. Expected none, "
            "loss or auto. Pass --balance loss."
        )
    return asked.choose("data", loss="bce")


def _refuse_colours(recipe: Recipe, channels: int) -> None:
    """Refuses augmentation of colours that images of other channels do not have.

    Raises:
        ValueError: The recipe has a policy or jitter.
    """
    policy = recipe.policy not in ("none", "auto")
    name = "policy" if policy else "jitter" if recipe.jitter else ""
    if name and channels not in COLOURS:
        off = "none" if name == "policy" else "0"
        raise ValueError(
            f"{name}={getattr(recipe, name)} with images of {channels} channels: it changes "
            f"colours. Expected {name}={off}, or images in RGB or grey. Pass --set {name}={off}."
        )


def _crop(recipe: Recipe, size: int, data: Dataset) -> str:
    """Returns how training images are cropped; pad and squash promise to keep the whole image."""
    if recipe.resize != "crop":
        return "middle"
    # A random part of a photograph may lack what its labels name, unlike its one subject.
    return "resized" if size >= PHOTOGRAPH and not data.multi_label else "shift"


def _with_sgd(asked: ResolvedRecipe, data: Dataset, *, norms: bool) -> ResolvedRecipe:
    """Returns the default recipe with SGD in place of Muon.

    Muon brings filters to one norm. A network without norms cannot bear that, and it would undo
    what a checkpoint's filters have learned. SGD's learning rate is 0.1 for 128 images (He et al.
    2015, section 4.2), in proportion to the batch (Goyal et al. 2017), and a tenth of it for
    networks without norms (Krizhevsky 2014).
    """
    batch = asked.recipe.batch or batch_for(len(data.train))
    return asked.suggest("data", batch=batch).suggest(
        "weights" if norms else "network",
        optimizer="sgd",
        lr=(0.1 if norms else 0.01) * batch / 128,
        momentum=0.9,
        weight_decay=5e-4,
        rescale=False,
    )


def input_size(recipe: Recipe, data: Dataset) -> int:
    """Returns the input size in training in pixels: the recipe's, or that of the images."""
    return recipe.size or min(data.side, typical_side(data.train))


def batch_for(count: int) -> int:
    """Returns a batch size with at least 20 steps per epoch for `count` images, 8 to 128."""
    twentieth = 1 << (max(count // 20, 1).bit_length() - 1)  # rounded down to a power of 2
    return max(8, min(64 if count < 20_000 else 128, twentieth))


def _few(count: int) -> int:
    """Returns the batch size to fine-tune on `count` images: an eighth of them, at most 64."""
    return max(4, min(64, count // 8))


def epochs_for(count: int, batch: int) -> int:
    """Returns the epochs to fine-tune on `count` images; more images need fewer epochs."""
    passes = 40 if count < 10_000 else 20 if count < 100_000 else 10
    return max(passes, math.ceil(FEW_STEPS * batch / count))


def lengthened(recipe: Recipe, epochs: int) -> Recipe:
    """Returns the recipe with another number of epochs, to which its schedule is scaled.

    Raises:
        ValueError: `epochs` is less than 1.
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
