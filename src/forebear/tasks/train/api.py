"""Training runs: a new one, several that differ by their seed, and one that broke off."""

from __future__ import annotations

import time
import warnings
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from forebear.errors import StopError
from forebear.tasks.label_evaluation import AnyEvaluation
from forebear.tasks.machine.allocator import keep_memory
from forebear.tasks.machine.device import algorithms
from forebear.tasks.machine.distributed import World
from forebear.tasks.machine.thread_tuning import ThreadTuner
from forebear.tasks.runs.choosing import MEASURES
from forebear.tasks.runs.folder import RunFolder
from forebear.tasks.runs.layout import CHECKPOINTS
from forebear.tasks.runs.tracking.trackers import check_installed
from forebear.tasks.train.budget.compile_mode import compiling
from forebear.tasks.train.choose_recipe import choose_recipe
from forebear.tasks.train.events import Finished, notify, observe
from forebear.tasks.train.loop import start_loop
from forebear.tasks.train.out_of_memory import explain_anywhere
from forebear.tasks.train.prepare import Prepared, prepare
from forebear.tasks.train.progress_bar import ProgressBar
from forebear.tasks.train.recorder import RESUME, Recorder
from forebear.tasks.train.request import TrainConfig
from forebear.tasks.train.resume.extend import extend_run
from forebear.tasks.train.resume.restore import restore_setup
from forebear.tasks.train.setup import RunSetup, new_folder, set_up
from forebear.tasks.train.signals import StopSignals

__all__ = ["TrainConfig", "TrainResult", "observe", "resume", "seeds", "train"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """Result of a finished run."""

    validation: AnyEvaluation  # of the validation set, after the last step
    test: AnyEvaluation | None  # of the best weights, if a validation set chose them
    folder: Path

    @property
    def held_out(self) -> AnyEvaluation:
        """`validation`, under its name in older versions."""
        warnings.warn(
            "TrainResult.held_out is now TrainResult.validation", DeprecationWarning, stacklevel=2
        )
        return self.validation


def train(config: TrainConfig) -> TrainResult:
    """Trains a network on a data set and leaves a finished run folder.

    Raises:
        ValueError: An argument is out of range, or the network cannot take these images.
        ForebearError: The data cannot be used, the folder is in the way, memory runs out, or a
            signal came, in which case the state is saved.
    """
    now = time.perf_counter()
    started = config.started or now
    config = replace(config, started=started)
    with World.join(config.device) as world, explain_anywhere():
        if world.restarts and config.out is not None and world.on_rank0(lambda: _begun(config)):
            return _resume(config.out, config.device, config.threads, world, started)
        return _run(set_up(config, world, imports=now - started))


def _begun(config: TrainConfig) -> bool:
    """Whether an earlier start by torchrun left the run unfinished; it is then resumed."""
    assert config.out is not None
    return any((config.out / CHECKPOINTS).glob("step-*"))


def seeds(config: TrainConfig, count: int) -> list[TrainResult]:
    """Trains several runs that differ by their seed alone, each in a folder of its own.

    Args:
        config: Of the first run; the other seeds follow on its own.
        count: Number of runs.

    Raises:
        ValueError: `count` is below 2, or what `train` raises.
        ForebearError: What `train` raises.
    """
    if count < 2:
        raise ValueError(f"seeds={count}: expected 2 or more. Leave it out for one run.")
    first = config.seed or 0
    out = config.out or new_folder(f"{config.data.partition(':')[0]}-seeds")
    folders = [RunFolder(out / f"seed-{first + n}", replace=config.replace) for n in range(count)]
    return [
        train(replace(config, seed=first + number, out=folder.path, started=None))
        for number, folder in enumerate(folders)
    ]


def resume(
    path: Path | str,
    *,
    epochs: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    started: float | None = None,
) -> TrainResult:
    """Resumes a run that broke off, after the last step that it saved.

    If the run is deterministic, or its number of threads is fixed, its weights on the same machine
    are bit-identical to those of an uninterrupted run. A run that was killed before it saved
    anything starts again.

    Args:
        path: Its folder.
        epochs: New total of a finished run, which then goes on from its weights.
        device: auto, cpu or cuda.
        threads: Compute threads; None keeps the run's own number.
        started: time.perf_counter() from which a budget counts on; None: the call.

    Raises:
        RunError: There is no unfinished run, or its data have changed.
    """
    path = Path(path)
    with World.join(device) as world, explain_anywhere():
        if epochs is not None:
            world.on_rank0(lambda: extend_run(path, epochs))
        return _resume(path, device, threads, world, started or time.perf_counter())


def _resume(
    path: Path, device: str, threads: int | None, world: World, started: float
) -> TrainResult:
    return _run(restore_setup(path, device=device, threads=threads, world=world, started=started))


def _run(setup: RunSetup) -> TrainResult:
    """Trains to the end, and leaves a finished folder."""
    setup.world.on_rank0(partial(check_installed, setup.config.trackers, setup.folder.path))
    if setup.config.keep_memory:
        keep_memory()
    setup = choose_recipe(setup)
    config = setup.config
    epochs = 0 if config.budget else setup.resolved.recipe.epochs
    with (
        algorithms(setup.device, deterministic=config.deterministic),
        closing(ThreadTuner(setup.device, config.threads, careful=bool(config.budget))) as threads,
        ProgressBar(
            epochs,
            config.budget or 0.0,
            measure=MEASURES[config.metric],
            multi_label=setup.data.multi_label,
            shows=setup.world.writes,
        ) as display,
        closing(setup.folder),
        StopSignals(says=setup.world.writes) as stop,
    ):
        try:
            return _train(prepare(setup, display), display, stop, threads)
        except StopError as error:
            there = stop.waits or setup.resumes
            then = f"To go on: {RESUME} {setup.folder.path}" if there else "No run was begun."
            raise StopError(f"{error} {then}", error.number) from None


def _train(
    run: Prepared, display: ProgressBar, stop: StopSignals, threads: ThreadTuner
) -> TrainResult:
    """Takes the events of the loop, one after the other."""
    if run.mode != "off":
        threads.chooses = False  # another number of threads would be compiled for again
    loop = start_loop(run, stop, threads)
    if run.background is not None:
        run.background.start()
    try:
        with compiling(run.mode), closing(Recorder(run, display)) as recorder:
            for event in loop.events():
                if notify(event):
                    loop.ends = True
                recorder.record(event)
    finally:
        if run.background is not None:
            run.background.stop()
    assert isinstance(event, Finished)
    return TrainResult(validation=event.evaluation, test=event.test, folder=run.setup.folder.path)
