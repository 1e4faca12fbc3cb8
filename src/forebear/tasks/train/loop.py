"""The training loop: a generator of events that owns the progress of a run."""

from __future__ import annotations

import copy
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from forebear.data.feature_loader import FeatureLoader
from forebear.data.loader import Loader
from forebear.errors import RunError, StopError
from forebear.network.network import Network
from forebear.network.plan.cost import smallest_side
from forebear.tasks.label_evaluation import AnyEvaluation
from forebear.tasks.machine.device import peak_memory
from forebear.tasks.machine.thread_tuning import ThreadTuner
from forebear.tasks.runs.choosing import MEASURES
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.train.balance import loss_weights
from forebear.tasks.train.budget.adapt import AdaptiveSize
from forebear.tasks.train.budget.progress import FINISH, Progress
from forebear.tasks.train.budget.timing import Operations
from forebear.tasks.train.data_parallel import synchronise_norms
from forebear.tasks.train.events import (
    CheckpointDue,
    EpochEnd,
    EvaluationStart,
    Event,
    Finished,
    Message,
    Started,
    StepEnd,
    StepStart,
    TrainingEnd,
)
from forebear.tasks.train.input_pipeline import order_of
from forebear.tasks.train.out_of_memory import explain_out_of_memory
from forebear.tasks.train.patience import Patience
from forebear.tasks.train.prepare import Prepared, share_of
from forebear.tasks.train.resume.restore import restore_state
from forebear.tasks.train.saving import SaveClock
from forebear.tasks.train.signals import StopSignals
from forebear.tasks.train.state import TrainState
from forebear.tasks.train.step import Stepper
from forebear.tasks.train.tally import Tally
from forebear.tasks.train.trainer import Trainer
from forebear.tasks.train.validate import load_best, test_images, validate

LOOK = 0.25  # seconds between two events of progress: each waits for the device
END = 0.15  # fraction of a budget that is kept back for the end, at most


class Agreed(NamedTuple):
    """What all processes do next."""

    signal: int  # number of the signal that came to one of them; 0: none
    over: bool  # whether the training has ended
    evaluates: bool  # whether there is time for an evaluation before the end
    progress: float  # of the run, 0 to 1


def start_loop(run: Prepared, stop: StopSignals, threads: ThreadTuner) -> Loop:
    """Returns the loop of a run, whose state is restored if the run is resumed.

    Args:
        run: To be trained.
        stop: From here on its signals are acted on between two steps.
        threads: Chooses the number of compute threads.

    Raises:
        RunError: No checkpoint is whole, it is of another run, or memory runs out.
    """
    setup, recipe, network = run.setup, run.recipe, run.setup.network
    model = network.get_submodule("logits") if recipe.head_only else network
    if recipe.batch_norm == "sync" and setup.world.size > 1:
        synchronise_norms(network)
    setup.world.broadcast([*network.parameters(), *network.buffers()])
    with explain_out_of_memory(network, recipe, setup.device):
        stepper = Stepper(
            model,
            network,
            recipe,
            setup.device,
            setup.world,
            mode=run.mode,
            weights=loss_weights(setup.data, recipe),
        )
    stop.wait()
    begun = time.perf_counter()
    progress = _progress(run)
    state, epochs = TrainState(), setup.epochs
    notes: tuple[str, ...] = ()
    if setup.starts_from is not None:
        state = setup.starts_from
        setup.world.on_rank0(setup.folder.hold)
    elif setup.resumes:
        state, epochs, notes = restore_state(run, stepper)
    if setup.resumes and run.deadlines is None:  # a budget counts them from the start already
        progress.begun -= state.seconds
    trainer = Trainer(
        run=run,
        stepper=stepper,
        threads=threads,
        order=order_of(recipe),
        state=state,
        tally=Tally(state=state, world=setup.world),
        sizes=_adaptive_size(run, progress),
    )
    return Loop(
        run=run,
        trainer=trainer,
        stop=stop,
        progress=progress,
        saves=SaveClock(every=setup.config.every),
        epochs=epochs,
        notes=notes,
        begun=begun,
        patience=Patience(
            measure=MEASURES[setup.config.metric],
            most=setup.config.patience if setup.chooses else None,
            state=state,
            epochs=epochs,
        ),
    )


def _progress(run: Prepared) -> Progress:
    """Returns the progress of a run at its start, by steps or by the clock."""
    recipe, deadlines, plan = run.recipe, run.deadlines, run.evaluation
    if deadlines is None or plan is None:
        begun = run.setup.config.started or time.perf_counter()
        steps = recipe.iterations or recipe.epochs * len(run.training)
        return Progress(steps=steps, begun=begun)
    progress = Progress(budget=deadlines.budget, begun=deadlines.started)
    progress.evaluation = 0.0 if recipe.head_only else plan.seconds
    progress.finish += plan.test_seconds
    return progress


def _adaptive_size(run: Prepared, progress: Progress) -> AdaptiveSize | None:
    """Returns what makes photographs smaller on a budget if steps turn out to be too long.

    A size that the user, the recipe or a checkpoint has fixed stays. So do compiled steps.
    """
    setup, recipe, plan = run.setup, run.recipe, run.setup.network.plan
    chosen = run.resolved.origins["size"] in ("data", "budget")
    fixed = setup.config.weights is not None or setup.resumes or not chosen
    if run.deadlines is None or fixed or recipe.crop != "resized" or run.mode != "off":
        return None
    return AdaptiveSize(
        operations=Operations(plan=plan, recipe=recipe),
        batch=share_of(recipe, setup.world.size).batch,
        least=smallest_side(plan),
        progress=progress,
    )


def _copy_of_network(trainer: Trainer) -> Network | None:
    """Returns a copy of the network, or of its moving average, if this process is to keep it."""
    setup = trainer.run.setup
    if not (setup.chooses and setup.world.writes):
        return None
    with trainer.stepper.averaged():
        return copy.deepcopy(setup.network)


@dataclass(slots=True, kw_only=True, eq=False)
class Loop:
    """A run on its way, new or resumed."""

    run: Prepared
    trainer: Trainer
    stop: StopSignals
    progress: Progress
    patience: Patience
    saves: SaveClock
    epochs: tuple[Epoch, ...] = ()  # completed before the run was resumed
    notes: tuple[str, ...] = ()  # to be said at the start
    begun: float  # time.perf_counter() when the state was about to be restored
    ends: bool = False  # whether an observer has answered END
    looked: float = 0.0  # time.perf_counter() of the last event of progress

    def events(self) -> Iterator[Event]:
        """Trains to the end, and yields what happens.

        Each event must be handled before the next one is taken: after `CheckpointDue` the state
        changes again.

        Raises:
            RunError: The loss is no longer finite, or memory runs out.
            StopError: A signal came; `CheckpointDue` was yielded before.
            DataError: An image cannot be decoded.
        """
        setup, state = self.run.setup, self.trainer.state
        yield Started(
            network=setup.network, step=state.step, resumed=setup.resumes, epochs=self.epochs
        )
        for note in self.notes:
            yield Message(line=note)
        if not setup.resumes or setup.starts_from is not None:
            yield CheckpointDue(state=state, stepper=self.trainer.stepper, first=True)
        # The end writes and draws more than the start, and unloads what was imported.
        self._keep_back(0.5 + 2 * (time.perf_counter() - self.begun) + setup.imports)
        last = yield from self._train()
        if last is None:  # a run that broke off after its last evaluation
            last = yield from self._validate()
        self.ends = False
        yield TrainingEnd()
        test = None
        if setup.test is not None and not self.ends:
            images = test_images(self.run)
            test = yield from self._measure(load_best(self.run), images, tests=True)
        yield Finished(
            evaluation=last,
            test=test,
            stepper=self.trainer.stepper,
            seconds=self.progress.spent,
        )

    def _keep_back(self, seconds: float) -> None:
        """Keeps time of a budget back for what follows the last evaluation."""
        deadlines, plan = self.run.deadlines, self.run.evaluation
        if deadlines is not None and plan is not None:
            kept = min(max(FINISH, seconds), max(FINISH, END * deadlines.left))
            self.progress.finish = max(self.progress.finish, kept + plan.test_seconds)

    def _train(self) -> Generator[Event, None, AnyEvaluation | None]:
        """Trains and evaluates; returns the last evaluation, or None if all was done before."""
        state, last = self.trainer.state, None
        self.saves.start()
        self.progress.begin(state.progress)
        over = self._agree().over or self.patience.over
        while not over or state.losses:  # a state can be saved between a step and its evaluation
            if not over:
                over = yield from self._epoch()
            if not state.losses:  # a budget ended right after an evaluation
                continue
            if not over and not self._agree().evaluates:
                self.trainer.next_epoch()
                continue
            last = yield from self._evaluate()
            self.trainer.next_epoch()
            if not over and (over := self.patience.over):
                yield Message(line=self.patience.line)
            over = over or self.ends
            if over or self._save_due(ended=True):
                yield from self._save()
        return last

    def _agree(self) -> Agreed:
        """Returns what all processes do next."""
        progress, step = self.progress, self.trainer.state.step
        mine = [
            float(self.stop.number),
            progress.over(step) or self.ends,
            progress.measures(),
            progress.progress(step),
        ]
        signal, over, evaluates, part = self.run.setup.world.all_reduce_max(mine)
        return Agreed(int(signal), bool(over), bool(evaluates), part)

    def _epoch(self) -> Generator[Event, None, bool]:
        """Trains from the current step to the end of the epoch; returns whether the run is over."""
        trainer, state = self.trainer, self.trainer.state
        checks = self.run.setup.device.type == "cpu"  # on a GPU a check would wait for it
        trainer.start_epoch(self._agree().progress)
        images, over = 0, False
        for batch in trainer.batches():
            agreed = self._agree()
            if agreed.signal:
                trainer.pause()
                yield from self._save()
                raise StopError(f"stopped by a signal after step {state.step}.", agreed.signal)
            if over := agreed.over:
                break
            yield StepStart(step=state.step + 1)
            self.progress.stepped(trainer.step(batch, agreed.progress))
            yield StepEnd(step=state.step)
            if checks:
                yield from self._check()
            images += batch.total
            if time.perf_counter() - self.looked > LOOK:
                self.looked = time.perf_counter()
                yield trainer.look(images, agreed.progress)
            if self._save_due():
                trainer.pause()
                yield from self._save()
        else:
            trainer.complete = True
        trainer.pause()
        yield from self._check()
        return over or self._agree().over

    def _check(self) -> Iterator[Event]:
        """Ends a run whose steps are no longer finite, after its last good state is saved."""
        trainer = self.trainer
        try:
            trainer.stepper.guard.check(trainer.state.step, self.run.recipe)
        except RunError:
            trainer.pause()
            yield from self._save()
            raise

    def _evaluate(self) -> Generator[Event, None, AnyEvaluation]:
        """Evaluates the network, or its moving average, and yields the end of the epoch."""
        trainer, run = self.trainer, self.run
        yield EvaluationStart(step=trainer.state.step)
        started = time.perf_counter()
        trainer.stepper.unite_running_values()
        try:
            evaluation = yield from self._validate()
        except StopError:
            yield from self._save()
            raise
        self.progress.measured(time.perf_counter() - started)
        epoch = trainer.tally.epoch(
            evaluation,
            steps=len(run.training),
            seconds=self.progress.spent,
            memory=peak_memory(run.setup.device),
        )
        started = time.perf_counter()
        improves = self.patience.take(epoch)  # in all processes, which have the same metrics
        best = _copy_of_network(trainer) if improves else None
        yield EpochEnd(epoch=epoch, evaluation=evaluation, best=best)
        self._keep_back(3 * (time.perf_counter() - started))  # as often drawn at the end
        trainer.tally.clear()
        return evaluation

    def _validate(self) -> Generator[Event, None, AnyEvaluation]:
        """Evaluates the network, or its moving average, on the validation set."""
        run, stepper = self.run, self.trainer.stepper
        if run.background is not None and self.progress.over(self.trainer.state.step):
            run.background.stop()
        with stepper.averaged():
            return (yield from self._measure(stepper.model, run.validation))

    def _measure(
        self, model: nn.Module, batches: Loader | FeatureLoader, *, tests: bool = False
    ) -> Generator[Event, None, AnyEvaluation]:
        """Evaluates a network; on a budget only until the end of the run has to begin."""
        progress, plan, until = self.progress, self.run.evaluation, None
        if plan is not None:
            kept = progress.finish - (plan.test_seconds if tests else 0.0)
            until = progress.begun + progress.budget - kept
        evaluation = validate(self.run, model, batches, self.stop, until=until)
        if isinstance(batches, Loader) and evaluation.images < len(batches.places):
            yield Message(
                line=f"the evaluation ended after {evaluation.images:,} of "
                f"{len(batches.places):,} images, as the budget is nearly used up"
            )
        return evaluation

    def _save_due(self, *, ended: bool = False) -> bool:
        due = self.saves.due(self.trainer.state.step, ended=ended)
        return bool(self.run.setup.world.all_reduce_max([float(due)])[0])

    def _save(self) -> Iterator[Event]:
        """Has the state saved, which `Trainer.pause` has brought up to date."""
        stepper, state = self.trainer.stepper, self.trainer.state
        state.seconds, state.progress = self.progress.spent, self.progress.progress(state.step)
        stepper.unite_running_values()
        started = time.perf_counter()
        yield CheckpointDue(state=state, stepper=stepper)
        self.saves.saved(started)
