"""`--recipe auto`: measures on held-out training images which way of fine-tuning is the best one.

The ways are the logits alone, as a logistic regression on the features, and all layers from these
logits on (LP-FT: Kumar et al. 2022, arXiv:2202.10054) with a low or a high learning rate. Each is
tried on folds of the training images, for a part of the time. The way with the high learning rate
then trains on all of them, unless another one is clearly better by accuracy, or by mAP of
multi-label images. The data's own validation set is not used, as it measures the result.

If the budget is short, the low learning rate is not tried, and fewer images are held out. Short
trials underrate what trains all layers. They are therefore made only if the logits alone are good,
as features that fit the images so well can lose more than they gain.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from forebear.data.dataset import Dataset
from forebear.data.sources.fold_split import FoldPlan
from forebear.errors import DataError, RunError, StopError
from forebear.network.network import Network
from forebear.tasks.evaluate import Evaluation
from forebear.tasks.label_evaluation import AnyEvaluation
from forebear.tasks.machine.device import algorithms
from forebear.tasks.machine.thread_tuning import ThreadTuner
from forebear.tasks.train.budget.progress import FINISH
from forebear.tasks.train.events import EpochEnd
from forebear.tasks.train.loop import start_loop
from forebear.tasks.train.prepare import Prepared, prepare
from forebear.tasks.train.progress_bar import ProgressBar
from forebear.tasks.train.request import AUTO
from forebear.tasks.train.resolve import ResolvedRecipe, lengthened
from forebear.tasks.train.setup import RunSetup
from forebear.tasks.train.signals import StopSignals
from forebear.tasks.train.validate import validate

HEAD_ONLY: Mapping[str, Any] = {
    "head_only": True,
    "head_scale": 1.0,
    "epochs": 1,
    "lr": 1e-9,  # next to none: the logits are the optimum already
    "warmup": 0.0,
    "ema": 0.0,
    "crop": "middle",
    "mirror": "none",
    "policy": "none",
}
WAYS: Mapping[str, Mapping[str, Any]] = {  # what differs from recipes/auto.toml
    "head-only": HEAD_ONLY,
    "gentle": {"lr": 1e-4},
    "full": {},
}
FOLDS = 4
ENOUGH = 200  # held-out images that decide; further folds are left out
FEW = 50  # held-out images that decide if the budget is short
GOOD = 0.8  # accuracy or mAP of the logits alone, from which they can be the best way
SHARE = 0.35  # of the budget, for the trials
LENGTH = 0.5  # epochs of a trial, relative to those of the run
SHORTEST = 4  # epochs of a trial
LEAST = 0.25  # epochs of a trial, relative to those of the run; shorter ones tell too little
CLEARLY = 2.0  # standard errors of the difference of two ways
APART = 0.5  # share of the variance that two ways do not share, as images are easy or hard for both
ROOM = 0.6  # of the time that is left, below which a run needs no clock to end it


@dataclass(frozen=True, slots=True)
class Scores:
    """What each way scored on held-out images."""

    sums: Mapping[str, float]  # of the images: 1 if it is right, or the mAP of its fold
    images: int
    multi_label: bool = False

    @property
    def best(self) -> str:
        """The way that changes the network most, unless another one is clearly better.

        Training all layers is better on most data sets, and a trial is shorter than the run, which
        costs such a way more. Clearly better means by more than two standard errors.
        """
        return next(
            way
            for way in reversed(tuple(self.sums))
            if not any(self._is_clearly_better(other, way) for other in self.sums)
        )

    def _is_clearly_better(self, one: str, other: str) -> bool:
        """Whether the difference of two ways is larger than chance makes likely."""
        shares = [self.sums[way] / self.images for way in (one, other)]
        variance = APART * self.images * sum(share * (1 - share) for share in shares)
        return self.sums[one] - self.sums[other] > CLEARLY * math.sqrt(variance)

    @property
    def line(self) -> str:
        """What was chosen, and why."""
        shares = ", ".join(f"{way} {total / self.images:.1%}" for way, total in self.sums.items())
        why = (
            "by"
            if self.sums[self.best] == max(self.sums.values())
            else "as none is clearly better by"
        )
        by = "mAP of " if self.multi_label else ""
        return f"{AUTO}: {self.best}, {why} {by}{self.images:,} held-out training images: {shares}"


def choose_recipe(setup: RunSetup) -> RunSetup:
    """Returns the setup with the recipe that `--recipe auto` stands for; any other one as it is.

    Args:
        setup: Of a run. A resumed one has made its choice.

    Raises:
        RunError: Several processes train, or memory runs out.
        DataError: An image cannot be decoded.
        StopError: A signal came.
    """
    if setup.config.recipe != AUTO or setup.resumes:
        return setup
    _refuse(setup)
    plan, config = _plan(setup.data), setup.config
    with (
        algorithms(setup.device, deterministic=config.deterministic),
        closing(ThreadTuner(setup.device, config.threads, careful=bool(config.budget))) as threads,
        ProgressBar(0) as display,
        StopSignals() as stop,
    ):
        try:
            way = "head-only" if plan is None else _best(setup, plan, display, stop, threads)
        except StopError as error:
            raise StopError(
                f"stopped by a signal while --recipe {AUTO} measured. No run was begun.",
                error.number,
            ) from None
        if plan is None:
            kind = "label" if setup.data.multi_label else "class"
            display.say(f"{AUTO}: {way}, as a {kind} has too few images to hold some out")
    resolved = setup.resolved.suggest("measurement", **_ways(setup.data)[way])
    return _without_clock(replace(setup, resolved=resolved))


def _refuse(setup: RunSetup) -> None:
    """Raises RunError for a run that cannot be measured."""
    if setup.world.size > 1:
        raise RunError(
            f"--recipe {AUTO} with {setup.world.size} processes: its trials are short runs of one "
            "process. Expected one process. Pass --recipe finetune, or start without torchrun."
        )


def _ways(data: Dataset) -> Mapping[str, Mapping[str, Any]]:
    """Returns what differs from recipes/auto.toml in each way.

    A random part of a photograph may lack what its labels name, so multi-label images are shifted.
    """
    if not data.multi_label:
        return WAYS
    return {way: {"crop": "shift", **values} for way, values in WAYS.items()}


def _plan(data: Dataset) -> FoldPlan | None:
    """Returns folds of the training images; None if a class or label has too few for two."""
    own = replace(data, splits_off=False)
    for count in range(FOLDS, 1, -1):
        try:
            return FoldPlan.of(own, count)
        except DataError:
            continue
    return None


@dataclass(frozen=True, slots=True)
class Trials:
    """Which ways are tried, and how thoroughly."""

    ways: tuple[str, ...]  # besides head-only, which takes no time
    epochs: int  # of each trial
    images: int  # held-out images that decide; further folds are left out

    @property
    def short(self) -> bool:
        """Whether they are too short to be fair to what trains all layers."""
        return self.images < ENOUGH


def _best(
    setup: RunSetup, plan: FoldPlan, display: ProgressBar, stop: StopSignals, threads: ThreadTuner
) -> str:
    """Tries the ways on the same folds, says what they scored, and returns the best one."""
    begun, images, budget = time.perf_counter(), 0, setup.config.budget
    if budget:
        assert setup.times is not None
        recipe = setup.resolved.recipe
        setup.times.learn(recipe.batch, recipe.size, begun + SHARE * budget)
    trials = plan_trials(setup, plan)
    if trials is None:
        way = tuple(WAYS)[-1]
        display.say(f"{AUTO}: {way}, as the budget is too short for trials as well")
        return way
    sums = dict.fromkeys(("head-only", *trials.ways), 0.0)
    until = begun + SHARE * budget if budget else math.inf
    for number in range(1, plan.count + 1):
        fold, each = plan.split(number), 0.0
        display.say(f"{AUTO}: trials of {trials.epochs} epochs on fold {number} of {plan.count}")
        started = time.perf_counter()
        for way, score in _trials(setup, fold, trials, stop, threads):
            sums[way] += score
            quality = score / len(fold.val)
            if trials.short and way == "head-only" and quality < GOOD:
                display.say(_line_of_skipped(trials.ways[-1], quality, len(fold.val)))
                return trials.ways[-1]
            now = time.perf_counter()
            each, started = now - started, now
            if way == trials.ways[-1] and now + each > until:  # slower than it was estimated
                trials = replace(trials, ways=trials.ways[-1:])
                break
        images += len(fold.val)
        if images >= trials.images or time.perf_counter() + len(trials.ways) * each > until:
            break
    scores = Scores(
        {way: sums[way] for way in ("head-only", *trials.ways)}, images, setup.data.multi_label
    )
    display.say(scores.line)
    return scores.best


def plan_trials(setup: RunSetup, plan: FoldPlan) -> Trials | None:
    """Returns trials that take at most their share of the budget; None if even few take longer.

    Args:
        setup: Its recipe has a number of epochs; with a budget, its step has been timed.
        plan: The folds of the training images.
    """
    recipe, whole, budget = setup.resolved.recipe, len(setup.data.train), setup.config.budget
    ways = tuple(way for way in WAYS if way != "head-only")
    epochs, least = LENGTH * recipe.epochs, LEAST * recipe.epochs
    if not budget:
        return Trials(ways, max(SHORTEST, round(epochs)), ENOUGH)
    assert setup.times is not None
    steps = whole * (1 - 1 / plan.count) / recipe.batch
    epoch = steps * setup.times.seconds(recipe.batch, recipe.size)  # seconds
    share = SHARE * budget

    def fitting(images: int, ways: tuple[str, ...]) -> float:
        """Returns the epochs of each trial that fit, if so many images are to be held out."""
        folds = min(plan.count, max(1, -(-images * plan.count // whole)))
        return share / (folds * len(ways) * epoch)

    found = min(epochs, fitting(ENOUGH, ways))
    if max(SHORTEST, round(found)) >= least:
        return Trials(ways, max(SHORTEST, round(found)), ENOUGH)
    if fitting(FEW, ways[-1:]) >= least:
        return Trials(ways[-1:], max(SHORTEST, math.ceil(least)), FEW)
    return None


def _line_of_skipped(way: str, quality: float, images: int) -> str:
    return (
        f"{AUTO}: {way}, as head-only has {quality:.1%} on {images:,} held-out training images, "
        "and the budget is too short for trials as well"
    )


def _trials(
    setup: RunSetup, fold: Dataset, trials: Trials, stop: StopSignals, threads: ThreadTuner
) -> Iterator[tuple[str, float]]:
    """Yields each way, and the sum of its scores of a fold's images; it trains on the others.

    Head-only comes first, and then the ways of the trials from the last one to the first one.
    """
    network = copy.deepcopy(setup.network)
    config = replace(setup.config, budget=None, patience=None)
    recipe = replace(lengthened(setup.resolved.recipe, trials.epochs), head_epochs=0)
    resolved = setup.resolved.become("measurement", recipe)
    own = replace(
        setup, config=config, data=fold, test=None, network=network, resolved=resolved, notes=()
    )
    with ProgressBar(trials.epochs, shows=False) as silent:
        run = prepare(own, silent)
        start = validate(run, network, run.validation, stop)
        yield "head-only", _sum(start)
        for way in reversed(trials.ways):
            values = _ways(setup.data)[way]
            trial = _with(run, copy.deepcopy(network), resolved.suggest("measurement", **values))
            yield way, _trained(trial, stop, threads)


def _with(run: Prepared, network: Network, resolved: ResolvedRecipe) -> Prepared:
    """Returns a run on the same images with another network and recipe."""
    setup = replace(run.setup, network=network, resolved=resolved)
    return replace(run, setup=setup, resolved=resolved)


def _trained(run: Prepared, stop: StopSignals, threads: ThreadTuner) -> float:
    """Trains, and returns the sum of the scores of the validation images at the end."""
    last = None
    loop = start_loop(run, stop, threads)
    loop.progress.only_last = True
    for event in loop.events():
        if isinstance(event, EpochEnd):
            last = event.evaluation
    assert last is not None
    return _sum(last)


def _sum(found: AnyEvaluation) -> float:
    """Returns the number of images that are right, or of multi-label images their number x mAP."""
    if isinstance(found, Evaluation):
        return float(found.confusion.trace())
    return found.mean_ap * found.images


def _without_clock(setup: RunSetup) -> RunSetup:
    """Returns the setup without a budget if the recipe's own length takes much less time."""
    config, recipe, times = setup.config, setup.resolved.recipe, setup.times
    if not config.budget or times is None or config.started is None:
        return setup
    left = config.started + config.budget - time.perf_counter() - FINISH
    steps = -(-len(setup.data.train) // recipe.batch)
    images = recipe.epochs * len(setup.data.val)
    step = times.seconds(recipe.batch, recipe.size)
    seconds = recipe.epochs * steps * step + images * step / recipe.batch / 2
    if seconds > ROOM * left:
        return setup
    return replace(setup, config=replace(config, budget=None))
