"""From the setup of a run to one that can begin: images decoded, and nothing left to choose."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from forebear.data.feature_loader import FeatureLoader
from forebear.data.loader import Loader
from forebear.data.reading import BackgroundReader, Reading
from forebear.data.sources.summary import summary
from forebear.data.strata import stratified
from forebear.errors import RunError
from forebear.hardware import processor
from forebear.network.accelerate import accelerate
from forebear.tables.preprocessing import Preprocessing
from forebear.tasks.machine.device import device_name, has_bf16
from forebear.tasks.runs.plots import can_draw
from forebear.tasks.train.balance import balance_line
from forebear.tasks.train.budget.compile_mode import mode_of
from forebear.tasks.train.budget.deadlines import Deadlines
from forebear.tasks.train.budget.evaluation import EvaluationPlan, plan_evaluation
from forebear.tasks.train.budget.plan import EVALUATION, SHORT, evaluated, plan_budget
from forebear.tasks.train.budget.progress import FINISH
from forebear.tasks.train.input_pipeline import Decoding, Limit, features, load_images
from forebear.tasks.train.logistic_head import start_logits
from forebear.tasks.train.out_of_memory import explain_out_of_memory
from forebear.tasks.train.progress_bar import ProgressBar
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.resolve import ResolvedRecipe
from forebear.tasks.train.setup import RunSetup
from forebear.tasks.train.step import Mode
from forebear.tasks.train.stochastic_depth import apply_stochastic_depth


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A run that can begin: its network is on the device, and its recipe is final."""

    setup: RunSetup
    resolved: ResolvedRecipe
    mode: Mode
    decoding: Decoding
    training_images: Loader
    validation_images: Loader
    training: Loader | FeatureLoader  # what learns takes: images, or the features of the logits
    validation: Loader | FeatureLoader
    background: BackgroundReader | None = None  # reads the remaining images during the training
    deadlines: Deadlines | None = None  # with a budget
    evaluation: EvaluationPlan | None = None  # with a budget

    @property
    def recipe(self) -> Recipe:
        """The recipe that is carried out."""
        return self.resolved.recipe

    @property
    def rule(self) -> Preprocessing:
        """The preprocessing of validation images."""
        return self.validation_images.rule


def prepare(setup: RunSetup, display: ProgressBar) -> Prepared:
    """Decodes the images, chooses how steps are computed, and plans a budget.

    Args:
        setup: Of a new run, or one to be resumed. Its network moves to the device.
        display: Shows the choices and the progress of decoding.

    Raises:
        RunError: A budget is too short, or memory runs out.
        DataError: An image cannot be decoded.
    """
    announce(setup, display)
    recipe, network = setup.resolved.recipe, setup.network
    deadlines = Deadlines.of(setup) if setup.config.budget else None
    decoding = Decoding(bad=setup.config.bad, workers=_workers(setup))
    training, validation = _load(setup, decoding, deadlines, display)
    network.to(setup.device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with explain_out_of_memory(network, recipe, setup.device):
        mode = _choose_mode(setup, len(training))
    if mode != "off":
        display.say(f"torch.compile: {mode}; the first step takes a minute or two")
    elif setup.device.type == "cpu":
        display.say(accelerate(network, winograd=recipe.precision != "fp32-strict"))
    if recipe.head_init == "logistic" and not setup.resumes:
        display.say(start_logits(network, training, recipe))
    if recipe.stochastic_depth:
        apply_stochastic_depth(network, recipe.stochastic_depth)
    evaluation = None
    if deadlines is not None:
        evaluation = plan_evaluation(setup, validation, deadlines)
        validation = _shown(setup, validation, evaluation, deadlines, display)
        if recipe.head_only:
            training = _affordable(setup, training, evaluation, deadlines, display)
    run = Prepared(
        setup=setup,
        resolved=setup.resolved,
        mode=mode,
        decoding=decoding,
        training_images=training,
        validation_images=validation,
        training=features(network, training, recipe) if recipe.head_only else training,
        validation=features(network, validation, recipe) if recipe.head_only else validation,
        background=_background(setup, decoding, training, validation),
        deadlines=deadlines,
        evaluation=evaluation,
    )
    if deadlines is None or setup.resumes:
        return run
    return _planned(run, deadlines, display)


def announce(setup: RunSetup, display: ProgressBar) -> None:
    """Prints what is trained on what, and what the caller should know before it starts."""
    data, recipe = setup.data, setup.resolved.recipe
    display.say(summary(data, tests=setup.test is not None))
    display.say(
        f"{setup.title}: {' x '.join(map(str, recipe.shape))} pixels, {recipe.precision} on "
        f"{setup.device}"
    )
    for note in (*data.notes, *setup.notes):
        display.say(note)
    if recipe.balance != "none" or setup.config.balance == "auto":
        by = setup.resolved.origins["balance"]
        display.say(balance_line(recipe.balance, by, data.train.labels))
    if recipe.precision == "bf16" and not has_bf16(setup.device):
        display.say(
            f"{device_name(setup.device)} has no bfloat16 instructions: fp32 is many times faster"
        )
    if not can_draw():
        display.say("no curves.png: run pip install 'forebear[plots]' for plots")


def share_of(recipe: Recipe, processes: int) -> Recipe:
    """Returns the recipe with the batch of one process."""
    return replace(recipe, batch=max(2, -(-recipe.batch // processes)))


def _workers(setup: RunSetup) -> int | None:
    """Returns the decoding threads; several processes share the cores."""
    if setup.config.workers is None and setup.world.size > 1:
        return setup.world.processors
    return setup.config.workers


def _load(
    setup: RunSetup, decoding: Decoding, deadlines: Deadlines | None, display: ProgressBar
) -> tuple[Loader, Loader]:
    """Returns the training and validation images; with a budget some are read later."""
    recipe, limit = setup.resolved.recipe, None
    if deadlines is not None:
        least = 2 if recipe.head_only else recipe.batch
        limit = Limit(until=0.0 if recipe.head_only else deadlines.read, least=least)
    training, validation = load_images(
        setup.data,
        recipe,
        setup.device,
        colours=setup.colours,
        decoding=decoding,
        world=setup.world,
        progress=display.decoding,
        limit=limit,
    )
    reading = training.reading
    if reading is not None and not reading.done and not recipe.head_only:
        display.say(
            f"reading {reading.count:,} of {len(setup.data.train):,} images first, the rest while "
            "training"
        )
    return training, validation


def _choose_mode(setup: RunSetup, steps: int) -> Mode:
    """Returns how steps are computed; a resumed run keeps its mode.

    Args:
        setup: Of the run.
        steps: In an epoch.
    """
    recipe = setup.resolved.recipe
    length = recipe.iterations or recipe.epochs * steps

    def choose() -> Mode:
        return mode_of(
            setup.config.compile,
            share_of(recipe, setup.world.size),
            setup.network,
            setup.device,
            alone=setup.world.size == 1,
            length=lambda seconds: setup.config.budget or length * seconds,
        )

    return setup.world.on_rank0(choose)


def _shown(
    setup: RunSetup,
    validation: Loader,
    plan: EvaluationPlan,
    deadlines: Deadlines,
    display: ProgressBar,
) -> Loader:
    """Returns the validation images that each evaluation takes, so that the budget is kept."""
    count, order = len(setup.data.val), validation.shown
    assert order is not None
    if plan.images < count:
        display.say(
            f"evaluating {plan.images:,} of {count:,} validation images, a fixed random part with "
            "the same proportions of classes: all of them would take about "
            f"{count * plan.seconds_per_image:.0f} s of the {deadlines.budget:g}"
        )
    return replace(validation, shown=order[: plan.images])


def _affordable(
    setup: RunSetup,
    training: Loader,
    plan: EvaluationPlan,
    deadlines: Deadlines,
    display: ProgressBar,
) -> Loader:
    """Returns the training images whose features are computed; all of them before the training."""
    recipe, data = setup.resolved.recipe, setup.data
    seconds = plan.seconds_per_image * (2 if recipe.mirror != "none" else 1)
    most = setup.world.on_rank0(lambda: evaluated(len(data.train), seconds, deadlines.left))
    chosen = stratified(data.train.labels, recipe.seed)[: max(most.images, 2)]
    if len(chosen) < len(data.train):
        display.say(
            f"training on {len(chosen):,} of {len(data.train):,} images: the features of all of "
            f"them would take more than {EVALUATION:.0%} of the budget"
        )
    return replace(training, reading=None, shown=np.sort(chosen))


def _background(
    setup: RunSetup, decoding: Decoding, training: Loader, validation: Loader
) -> BackgroundReader | None:
    """Returns what reads the remaining images during the training; None without a budget."""
    if training.reading is None:
        return None
    assert validation.shown is not None
    parts = [training.reading, Reading(validation.store, validation.shown)]
    cores = processor().cores if decoding.workers is None else decoding.workers
    return BackgroundReader(parts, cores, keeps=setup.world.writes)


def _planned(run: Prepared, deadlines: Deadlines, display: ProgressBar) -> Prepared:
    """Returns the run with the recipe for its budget.

    Raises:
        RunError: There is no time for a step.
    """
    setup, recipe, plan = run.setup, run.recipe, run.evaluation
    assert plan is not None
    assert setup.times is not None
    times = setup.times
    spent = time.perf_counter() - deadlines.started
    end = plan.test_seconds + FINISH + (0.0 if recipe.head_only else plan.seconds)
    left = deadlines.budget - spent - end
    if left <= 0 and deadlines.budget <= SHORT:
        raise RunError(
            f"--budget {deadlines.budget:g} s: {spent:.1f} s were gone before the first step, and "
            f"the end takes about {end:.1f} s more. Expected time for some steps. Raise the "
            "budget."
        )
    share = share_of(recipe, setup.world.size)
    planned = setup.world.on_rank0(
        lambda: plan_budget(share, times, max(left, 1.0), len(run.training))
    )
    resolved = run.resolved.become("budget", replace(planned, batch=recipe.batch))
    final = resolved.recipe
    grows = f", growing from {final.size_from} pixels" if final.size_from else ""
    display.say(f"a budget of {deadlines.budget:g} s: about {final.epochs} epochs{grows}")
    return replace(run, resolved=resolved)
