"""Sets up a new run before any image is decoded: data, recipe, network and weights."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from forebear.data.dataset import Dataset, with_channels
from forebear.data.fold import Fold
from forebear.data.sample_levels import find_levels
from forebear.data.sources.fold_split import as_test, split_fold
from forebear.data.sources.group_by import refuse_shared_groups
from forebear.data.sources.registry import read_data
from forebear.data.sources.split import split_validation
from forebear.errors import DataError, RunError
from forebear.network.create import create
from forebear.network.initialize import start_at, zero_last_norms
from forebear.network.network import Network
from forebear.network.plan.cost import check_map, check_size
from forebear.tables.dialects import Dialect
from forebear.tables.files import resolve
from forebear.tables.preprocessing import TORCHVISION, Preprocessing
from forebear.tables.rows import Table
from forebear.tasks.machine.distributed import ALONE, World
from forebear.tasks.machine.thread_tuning import uncrowded
from forebear.tasks.runs.choosing import metric_for
from forebear.tasks.runs.folder import RunFolder
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.train.balance import label_odds, loss_weights
from forebear.tasks.train.budget.plan import Allowance, Amount, Fitted, fit_to_budget
from forebear.tasks.train.budget.timing import StepTimes
from forebear.tasks.train.initial_weights import load_initial_weights
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.recipe_files import network_of
from forebear.tasks.train.request import TrainConfig
from forebear.tasks.train.resolve import (
    ResolvedRecipe,
    input_size,
    read_config,
    resolve_recipe,
)
from forebear.tasks.train.state import TrainState
from forebear.text import printable
from forebear.weights.load import find_card, find_network

_NO_CHOICE = (
    "--metric {}: no best.safetensors is written, since the data's own validation set measures the "
    "result; with --hold-out 0.1 weights are chosen on held-out training images"
)
SMALL = 48  # pixels: up to here the default network has the CIFAR root


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSetup:
    """A run, new or to be resumed, whose images are not decoded yet."""

    config: TrainConfig
    name: str  # of the network, as it was asked for
    network: Network
    data: Dataset  # with the validation set
    test: Dataset | None = None  # with the test set, if it differs from the validation set
    resolved: ResolvedRecipe
    folder: RunFolder
    device: torch.device
    colours: Preprocessing | None = None  # that the network's weights were trained with
    world: World = ALONE
    notes: tuple[str, ...] = ()  # lines to print
    epochs: tuple[Epoch, ...] = ()  # that a resumed run has completed
    resumes: bool = False  # whether the folder is there, with a checkpoint or `starts_from`
    starts_from: TrainState | None = None  # of a finished run that is extended
    times: StepTimes | None = None  # with a budget
    imports: float = 0.0  # seconds that the command took to load torch and forebear

    @property
    def title(self) -> str:
        """Network and data in one line, for plots."""
        return f"{self.name} on {self.data.spec}"

    @property
    def chooses(self) -> bool:
        """Whether the best weights are chosen by the validation set."""
        return self.test is not None or self.data.splits_off


def set_up(config: TrainConfig, world: World, *, imports: float) -> RunSetup:
    """Reads the data set, resolves the recipe, and creates the network of a new run.

    Args:
        config: What the caller asked for.
        world: The processes that train.
        imports: Seconds that the command took to load torch and forebear.

    Raises:
        ValueError: An argument is out of range, or the network cannot take these images.
        ForebearError: The data cannot be used, or the folder is in the way.
    """
    device = world.device(config.device)
    if config.deterministic and config.threads is None:
        config = replace(config, threads=torch.get_num_threads())
    if config.out is not None:  # refused before the data are read
        world.on_rank0(partial(RunFolder, config.out, replace=config.replace))
    if config.network is not None:
        resolve(config.network, config.dialect)  # so is an unknown name
    data, test = split_data(images_of(config), config.hold_out, config.fold)
    config = replace(config, metric=metric_for(config.metric, multi_label=data.multi_label))
    refuse_one_class(data)
    _refuse_patience(config, chooses=test is not None or data.splits_off)
    _refuse_if_spent(config)
    card = None if config.weights is None else find_card(config.weights)
    asked = read_config(
        config, checkpoint_size=(0, 0) if card is None else card.preprocessing.shape
    )
    name, table, dialect = choose_network(config, asked.recipe, input_size(asked.recipe, data))
    norms = dialect.root_norm or dialect.final_norm
    resolved = resolve_recipe(asked, config, data, norms=norms, device=device)
    trained = None if card is None else card.preprocessing
    _refuse_other_channels(data, trained)
    network = create_network(table, dialect, data, resolved.recipe, trained)
    times: StepTimes | None = None
    notes: tuple[str, ...] = ()
    if config.budget:
        times = StepTimes(resolved.recipe, network, device)
        fitted = world.on_rank0(partial(_fit, config, asked.recipe, data, times, world.size))
        if fitted.size != resolved.recipe.size:
            asked = asked.choose("budget", size=fitted.size)
        if fitted.batch != resolved.recipe.batch:
            asked = asked.choose("budget", batch=fitted.batch)
        resolved = resolve_recipe(asked, config, data, norms=norms, device=device)
        notes = (fitted.line,) if fitted.line else ()
    if config.metric not in ("top1", "mAP") and test is None and not data.splits_off:
        notes += (_NO_CHOICE.format(config.metric),)
    network.card = card or network.card
    if config.weights is not None:
        notes += load_initial_weights(network, config, data, resolved.recipe)
    kind = data.spec.partition(":")[0]
    return RunSetup(
        config=config,
        name=name,
        network=network,
        data=data,
        test=test,
        resolved=resolved,
        folder=world.on_rank0(
            lambda: RunFolder(
                config.out or new_folder(f"{kind}-{table.name}"), replace=config.replace
            )
        ),
        device=device,
        world=world,
        colours=_colours(config, network, data),
        notes=notes,
        times=times,
        imports=imports,
    )


def images_of(config: TrainConfig) -> Dataset:
    """Reads the data set with the channels that were asked for.

    Raises:
        DataError: It cannot be used, or its images are arrays with other channels.
    """
    return with_channels(read_data(config.data, config.reading), config.channels)


def refuse_one_class(data: Dataset) -> None:
    """Refuses a data set that gives a network nothing to tell apart.

    Raises:
        DataError: It has one class.
    """
    if len(data.classes) == 1 and not data.multi_label:
        raise DataError(
            f"{printable(data.spec)}: only one class, {printable(data.classes[0])}, so a network "
            "that always answers it is right. Expected two classes or more. Add images that are "
            "something else, or pass the folder or the table that has all classes."
        )


def _refuse_other_channels(data: Dataset, trained: Preprocessing | None) -> None:
    """Refuses images of other channels than weights for any channels take.

    Raises:
        DataError: The numbers of channels differ.
    """
    if trained is not None and trained.order == "any" and trained.channels != data.channels:
        raise DataError(
            f"{printable(data.spec)}: images of {data.channels} channels. Expected "
            f"{trained.channels}, as the network of --weights takes. If the files have as many, "
            f"pass --channels {trained.channels}."
        )


def _refuse_patience(config: TrainConfig, *, chooses: bool) -> None:
    """Refuses to end the training by images that are to measure the result.

    Raises:
        ValueError: The validation set came with the data.
    """
    if config.patience is not None and not chooses:
        raise ValueError(
            f"--patience {config.patience}: {printable(config.data)} has a validation set of its "
            "own, and its accuracy would be too high if it also decided when the training ends. "
            "Expected validation images that are split off from the training images. Pass "
            "--hold-out 0.1 as well: the data's own validation set is then the test set."
        )


def _colours(config: TrainConfig, network: Network, data: Dataset) -> Preprocessing | None:
    """Returns the preprocessing whose arithmetic on values is kept; None for the usual one."""
    trained = network.preprocessing if config.weights is not None else None
    levels = find_levels(config.sample_range, data.train)
    return trained if levels is None else replace(trained or TORCHVISION, levels=levels)


def _refuse_if_spent(config: TrainConfig) -> None:
    """Refuses a budget that is shorter than listing the images of the data set.

    Raises:
        RunError: It is.
    """
    if not config.budget or config.started is None:
        return
    spent = time.perf_counter() - config.started
    if spent >= config.budget:
        raise RunError(
            f"--budget {config.budget:g} s: loading torch and listing the images of "
            f"{config.data} took {spent:.1f} s. Expected a longer budget. Raise the budget."
        )


def _fit(
    config: TrainConfig, asked: Recipe, data: Dataset, times: StepTimes, processes: int
) -> Fitted:
    """Returns size and batch for a budget, by steps with as many threads as are faster now."""
    assert config.budget is not None
    assert config.started is not None
    until = Allowance(config.budget, config.started).timed
    amount = Amount(
        train=len(data.train), evaluated=len(data.val), budget=config.budget * processes
    )
    careful = times.device.type == "cpu" and config.threads is None
    with uncrowded() if careful else nullcontext():
        return fit_to_budget(asked, times, amount, until, trained=config.weights is not None)


def new_folder(name: str) -> Path:
    """Returns runs/NAME, or the first of runs/NAME-2, runs/NAME-3, ... that is free."""
    folder, number = Path("runs") / name, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder


def split_data(
    data: Dataset, fraction: float | None, fold: str | None = None
) -> tuple[Dataset, Dataset | None]:
    """Returns the training and validation sets, and the original data if it serves as test set.

    Args:
        data: As it was read.
        fraction: Of the training images, to use for validation; None keeps the data as is.
        fold: The fold of a cross-validation that validates, such as "2/5".

    Raises:
        DataError: Parts that came with the data have a group in common, or no split is possible.
    """
    refuse_shared_groups(data)
    if fold is not None:
        return split_fold(data, Fold.parse(fold)), None if data.splits_off else data
    if fraction is None:
        return data, None
    split = split_validation(
        data.train,
        fraction=fraction,
        spec=data.spec,
        classes=data.classes,
        side=data.side,
        mirror=data.mirror,
        groups=data.groups.get("train"),
    )
    return as_test(split, data), data


def choose_network(config: TrainConfig, recipe: Recipe, size: int) -> tuple[str, Table, Dialect]:
    """Returns the network and its name: asked for, the recipe's, the checkpoint's, or by size."""
    if config.network is None and recipe.dialect:
        own = resolve(network_of(recipe), config.dialect or recipe.dialect)
        return (recipe.network, *own)
    name = config.network or recipe.network
    if not name and config.weights is not None:
        name, table, dialect = find_network(config.weights)
        return (name, *resolve(table, config.dialect or dialect))
    name = name or ("paper/resnet20" if size <= SMALL else "torchvision/resnet18")
    return (name, *resolve(name, config.dialect))


def create_network(
    table: Table,
    dialect: Dialect,
    data: Dataset,
    recipe: Recipe,
    trained: Preprocessing | None = None,
) -> Network:
    """Returns the network for the classes and channels of the data set, initialised at random.

    Args:
        table: The network.
        dialect: Of the network.
        data: Its classes and channels matter.
        recipe: Of the run.
        trained: The preprocessing that weights were trained with, if there are any. If it is of
            grey images, colour images turn grey.

    Raises:
        ValueError: An input size of the recipe is too small for the network.
    """
    network = create(
        table,
        dialect=dialect,
        num_classes=len(data.classes),
        in_channels=1 if trained is not None and trained.channels == 1 else data.channels,
        generator=torch.Generator().manual_seed(recipe.seed),
    )
    if data.multi_label:
        weights = loss_weights(data, recipe)
        start_at(network, label_odds(data.train.labels, weights))
    if recipe.zero_init_residual:
        zero_last_norms(network)
    squares = {(side, side) for side in (recipe.size_from, recipe.eval_size) if side}
    shapes = {recipe.shape} if recipe.width else squares | {recipe.shape}
    for height, width in sorted(shapes):
        check_size(network.plan, height, width)
        check_map(network.plan, height, width)
    return network
