"""The weights that a run starts from: those of a checkpoint, and what of it does not fit."""

from __future__ import annotations

import copy
from dataclasses import replace

from forebear.data.dataset import Dataset
from forebear.network.create import create
from forebear.network.network import Network
from forebear.tables.imagenet_classes import synset_name
from forebear.tables.preprocessing import Preprocessing
from forebear.tasks.train.input_pipeline import input_deviation
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.request import TrainConfig
from forebear.weights.adapt_channels import COLOURS, adapt_channels, first_kernel
from forebear.weights.assign import load_arrays
from forebear.weights.load import library_arrays
from forebear.weights.understand import understand_as


def load_initial_weights(
    network: Network, config: TrainConfig, data: Dataset, recipe: Recipe
) -> tuple[str, ...]:
    """Loads the checkpoint, and returns notes about the layers that stay random.

    The logits are loaded if the checkpoint names the classes of this data set in this order. If it
    names no classes, they are loaded unless the recipe trains or fits the logits first. If the
    images do not have the three channels of the checkpoint, its first convolution is adapted.

    Args:
        network: Has the checkpoint's card.
        config: Names the checkpoint.
        data: Its classes are compared with those of the checkpoint.
        recipe: How the network is trained.

    Raises:
        WeightsError: The checkpoint does not fit, or without `partial` not all of it.
    """
    path, known = config.weights, network.card.classes
    assert path is not None
    trained = network.card.multi_label is not None  # as the checkpoint says
    network.card = replace(network.card, classes=(), multi_label=None)
    logits = network.get_submodule("logits")
    random = copy.deepcopy(logits.state_dict())
    with library_arrays(path) as arrays:
        found = understand_as(network.table, network.dialect, arrays, partial=config.partial)
        adapts = found.in_channels == COLOURS and network.plan.in_channels != COLOURS
        source = _in_colour(network) if adapts else network
        stayed = load_arrays(source, arrays, partial=config.partial)
    notes = tuple(f"{path}: {said}" for said in found.facts.notes)
    if adapts:
        notes = (*notes, *_adapted(network, source, stayed))
    if stayed:
        notes = (*notes, f"random, as {path} has none that fit: {', '.join(stayed)}")
    same = known in (data.classes, tuple(synset_name(name) or name for name in data.classes))
    fitted = recipe.head_only or recipe.head_epochs or recipe.head_init == "logistic"
    unsure = not known and not fitted
    if "logits.weight" in stayed or (trained == data.multi_label and (same or unsure)):
        return notes
    logits.load_state_dict(random)
    why = "was trained on other classes, or in another order" if known else "names no classes"
    if trained and not data.multi_label:
        why = "is multi-label"
    elif known and data.multi_label and not trained:
        why = "was trained on images with one class each"
    return (*notes, f"logits random, as {path} {why}")


def _in_colour(network: Network) -> Network:
    """Returns the network with random weights for images in colour."""
    return create(
        network.table,
        dialect=network.dialect,
        num_classes=network.plan.num_classes,
        in_channels=COLOURS,
    )


def _adapted(network: Network, source: Network, stayed: list[str]) -> tuple[str, ...]:
    """Copies the weights of a network for colours, and returns a line about the first convolution.

    Args:
        network: For other channels; has the checkpoint's card. What stayed random is not copied.
        source: The same network for images in colour.
        stayed: The names of the weights that the checkpoint does not have.
    """
    first, channels, rule = first_kernel(network), network.plan.in_channels, network.preprocessing
    state = {name: value for name, value in source.state_dict().items() if name not in stayed}
    if first in state:
        state[first] = adapt_channels(state[first], channels, order=rule.order)
    network.load_state_dict(network.state_dict() | state)
    return (_line(first, channels, rule),) if first in state else ()


def _line(first: str, channels: int, rule: Preprocessing) -> str:
    how = f"are repeated and multiplied by {COLOURS}/{channels}"
    if channels == 1:
        how = "are summed over its channels"
    return (
        f"{first.removesuffix('.conv.weight')}: the images have {channels} "
        f"channel{'' if channels == 1 else 's'}, the checkpoint takes {COLOURS}, so its filters "
        f"{how}; each channel of the images is brought to mean 0 and standard deviation "
        f"{input_deviation(rule):.3g}, as measured on the training images"
    )
