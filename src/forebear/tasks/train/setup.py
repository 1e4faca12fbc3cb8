"""The data, the network and the weights that a run begins with."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from forebear.data.dataset import Dataset
from forebear.data.sources.split import held_out
from forebear.network.create import create
from forebear.network.initialize import zero_last_norms
from forebear.network.network import Network
from forebear.network.plan.cost import check_size
from forebear.tables.dialects import Dialect
from forebear.tables.files import (
    resolve,
)
from forebear.tables.imagenet_classes import synset_name
from forebear.tables.rows import Table
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.recipe_files import network_of
from forebear.tasks.train.request import TrainConfig
from forebear.weights.assign import load_arrays
from forebear.weights.load import find_network, home_arrays

SMALL = 48  # pixels: up to here the default network has the CIFAR root


def split_data(data: Dataset, share: float | None) -> tuple[Dataset, Dataset | None]:
    """The data to train and to choose by; as they came, if their own part is to test on at last."""
    if share is None:
        return data, None
    if not 0 < share < 1:
        raise ValueError(f"hold_out={share}: expected a share between 0 and 1, such as 0.1.")
    split = held_out(
        data.train,
        share=share,
        spec=data.spec,
        classes=data.classes,
        side=data.side,
        mirror=data.mirror,
    )
    return split, data


def choose_network(request: TrainConfig, recipe: Recipe) -> tuple[str, Table, Dialect]:
    """The network to train and its name: asked for, the recipe's, the checkpoint's, or by size."""
    if request.network is None and recipe.dialect:
        own = resolve(network_of(recipe), request.dialect or recipe.dialect)
        return (recipe.network, *own)
    name = request.network or recipe.network
    if not name and request.weights is not None:
        name, table, dialect = find_network(request.weights)
        return (name, *resolve(table, request.dialect or dialect))
    name = name or ("paper/resnet20" if recipe.size <= SMALL else "torchvision/resnet18")
    return (name, *resolve(name, request.dialect))


def create_network(table: Table, dialect: Dialect, data: Dataset, recipe: Recipe) -> Network:
    network = create(
        table,
        dialect=dialect,
        num_classes=len(data.classes),
        in_channels=data.channels,
        generator=torch.Generator().manual_seed(recipe.seed),
    )
    if recipe.zero_init_residual:
        zero_last_norms(network)
    for side in sorted({recipe.size_from or recipe.size, recipe.size, recipe.eval_size}):
        check_size(network.plan, side, side)
    return network


def load_initial_weights(
    network: Network, request: TrainConfig, data: Dataset, recipe: Recipe
) -> tuple[str, ...]:
    """Fills the network, which has the checkpoint's card; what is to be said of what stays random.

    As many classes need not be the same ones: logits are taken where the checkpoint names the
    classes of these data in this order. Where it names none, a recipe that trains the head before
    the rest, or alone, has one of its own.

    Raises:
        WeightsError: the checkpoint does not fit, or without `partial` not all of it.
    """
    path, known = request.weights, network.card.classes
    assert path is not None
    network.card = replace(network.card, classes=())
    logits = network.get_submodule("logits")
    random = copy.deepcopy(logits.state_dict())
    with home_arrays(path) as arrays:
        stayed = load_arrays(network, arrays, partial=request.partial)
    notes = (f"random, as {path} has none that fit: {', '.join(stayed)}",) if stayed else ()
    same = known in (data.classes, tuple(synset_name(name) or name for name in data.classes))
    unsure = not known and not (recipe.head_only or recipe.head_epochs)
    if same or unsure or "logits.weight" in stayed:
        return notes
    logits.load_state_dict(random)
    why = "was trained on other classes, or in another order" if known else "names no classes"
    return (*notes, f"logits random, as {path} {why}")
