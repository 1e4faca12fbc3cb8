"""The search: the unchanged recipe first, then Optuna's proposals, with successive halving."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from forebear.errors import ForebearError, RunError, StopError
from forebear.files import write_text
from forebear.tasks.runs.choosing import MEASURES
from forebear.tasks.runs.layout import BEST
from forebear.tasks.runs.lock import FolderLock
from forebear.tasks.runs.read import read_run
from forebear.tasks.train.api import train
from forebear.tasks.train.events import END, EpochEnd, Event, StepEnd, TrainingEnd, observe
from forebear.tasks.tune.config import TuneConfig
from forebear.tasks.tune.space import Dimension, default_space
from forebear.text import printable
from forebear.untrusted import read_text

STUDY = "study.log"
ASKED = "tune.json"
REDUCTION = 3  # of the trials at a rung, one in so many goes on (Li et al. 2018, section 3.6: 3, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run of the search."""

    number: int  # 0: the unchanged recipe
    values: Mapping[str, Any]  # of the searched fields; none for the unchanged recipe
    state: str  # complete, pruned, time (the time was over) or failed
    metric: float | None  # the best of its evaluations; None if it has none
    epochs: float
    seconds: float
    folder: str  # below the folder of the search


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneResult:
    """Result of a search."""

    trials: tuple[Trial, ...]
    winner: Trial
    metric: str
    test_accuracy: float | None  # of the winner, 0 to 1; None if the data have no test set
    test_images: int
    folder: Path


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ForebearError(
            "forebear tune: optuna is not installed. Expected the extra tune. "
            "Run pip install 'forebear[tune]'."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def tune(config: TuneConfig, say: Callable[[str], None] = lambda line: None) -> TuneResult:
    """Searches fields of a recipe, and leaves each trial as a run folder below `config.out`.

    The same call on the same folder goes on with the search. The metric is that of images held
    out of the training images. The data's own validation set is evaluated once, for the winner.

    Args:
        config: What is searched, and for how long.
        say: Takes lines about the progress.

    Raises:
        ForebearError: Optuna is missing, the folder belongs to another search or is in use, or a
            signal came.
        ValueError: What `train` raises for the unchanged recipe.
    """
    optuna = _optuna()
    started = time.perf_counter()
    config.out.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(config.out)
    lock.acquire()
    try:
        _same_search(config)
        return _Search(config, optuna, started, say).run()
    finally:
        lock.release()


def _same_search(config: TuneConfig) -> None:
    """Writes down what is searched, or refuses a folder in which something else was.

    Raises:
        RunError: It was.
    """
    train_config = {key: value for key, value in asdict(config.train).items() if key != "started"}
    asked = {"train": train_config, "search": config.search, "seed": config.seed}
    text = json.dumps(asked, indent=1, default=str)
    path = config.out / ASKED
    begun = any(entry.name.startswith("trial-") for entry in config.out.iterdir())
    if begun and (not path.is_file() or read_text(path) != text):
        raise RunError(
            f"{printable(config.out)}: holds trials of another search. Expected the arguments in "
            f"{ASKED}; only --time and --trials may change. Repeat its command, or pass another "
            "--out."
        )
    write_text(path, text)


class _Search:
    """One search on its way."""

    def __init__(
        self, config: TuneConfig, optuna: Any, started: float, say: Callable[[str], None]
    ) -> None:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        self.config, self.optuna, self.say = config, optuna, say
        self.epochs = 0  # of a whole trial; known after the first one
        self.measure = MEASURES[config.train.metric]
        self.study = optuna.create_study(
            study_name="tune",
            storage=JournalStorage(JournalFileBackend(str(config.out / STUDY))),
            direction="maximize",
            load_if_exists=True,
        )
        states = optuna.trial.TrialState
        for trial in self.study.get_trials(states=(states.RUNNING,)):  # its process was killed
            self.study.tell(trial.number, state=states.FAIL)
        earlier = sum(one.user_attrs.get("seconds", 0.0) for one in self.study.get_trials())
        self.ends = started + config.time - earlier
        # A proposal depends on the trials before it, so another start needs another seed.
        self.study.sampler = optuna.samplers.TPESampler(
            seed=config.seed + len(self.study.get_trials()), n_startup_trials=5
        )

    def run(self) -> TuneResult:
        """Carries out the trials that there is time for."""
        if self._baseline() is None:
            self._trial(())
        first = self._baseline()
        if first is None:
            raise RunError(
                "the unchanged recipe has no evaluation. Expected one within the time. Pass a "
                "longer --time, or fewer --epochs."
            )
        recipe = read_run(self.config.out / first.folder).part("recipe")
        fine_tunes = self.config.train.weights is not None
        space = self.config.space or default_space(recipe, fine_tunes=fine_tunes)
        self.say(f"searches {', '.join(one.text for one in space)}")
        self.epochs = max(1, int(recipe.get("epochs") or 1))
        self.study.pruner = self._halving(self.epochs)
        while time.perf_counter() < self.ends and not self._enough():
            self._trial(space)
        return self._result()

    def _halving(self, epochs: int) -> Any:
        """Returns the pruner, whose first rung is a ninth of the epochs."""
        return self.optuna.pruners.SuccessiveHalvingPruner(
            min_resource=max(1, epochs // REDUCTION**2), reduction_factor=REDUCTION
        )

    def _enough(self) -> bool:
        done = [one for one in self._trials() if one.state != "failed"]
        return self.config.trials is not None and len(done) >= self.config.trials

    def _trials(self) -> list[Trial]:
        return [Trial(**one.user_attrs["trial"]) for one in self._told()]

    def _told(self) -> list[Any]:
        return [one for one in self.study.get_trials() if "trial" in one.user_attrs]

    def _baseline(self) -> Trial | None:
        return next((t for t in self._trials() if not t.values and t.metric is not None), None)

    def _trial(self, space: tuple[Dimension, ...]) -> None:
        """Trains one run, and tells the study how it ended."""
        asked = self.study.ask()
        values = {one.field: _propose(asked, one) for one in space}
        name = f"trial-{asked.number:03d}"
        sets = tuple(f"{field}={json.dumps(value)}" for field, value in values.items())
        base = self.config.train
        config = replace(
            base,
            sets=(*base.sets, *sets),
            out=self.config.out / name,
            seed=self.config.seed,
            replace=True,
            started=None,
        )
        watch = _Watch(self, asked, halves=bool(values))
        begun = time.perf_counter()
        state = "failed"
        try:
            with observe(watch):
                train(config)
            state = watch.state
        except (ValueError, ForebearError) as error:
            if not values or isinstance(error, StopError):  # the first trial, or a signal
                raise
            self.say(f"{name} failed: {error}")
        trial = Trial(
            number=asked.number,
            values=values,
            state=state,
            metric=watch.value,
            epochs=watch.epochs,
            seconds=time.perf_counter() - begun,
            folder=name,
        )
        asked.set_user_attr("seconds", trial.seconds)
        asked.set_user_attr("trial", asdict(trial))
        states = self.optuna.trial.TrialState
        if state == "complete" and watch.value is not None:
            self.study.tell(asked, watch.score)
        else:
            self.study.tell(asked, state=states.FAIL if state == "failed" else states.PRUNED)
        shown = "none" if trial.metric is None else self.measure.text(trial.metric)
        self.say(f"{name}: {state}, {self.measure.title} {shown}, {trial.seconds:.0f} s")

    def _result(self) -> TuneResult:
        trials = self._trials()
        known = [t for t in trials if t.state == "complete" or t == self._baseline()]
        scored = [t for t in known if t.metric is not None]
        sign = -1 if self.measure.falls else 1
        winner = max(scored, key=lambda t: (sign * (t.metric or 0.0), -t.number))
        tested = self._test(winner)
        result = TuneResult(
            trials=tuple(trials),
            winner=winner,
            metric=self.config.train.metric,
            test_accuracy=None if tested is None else tested[0],
            test_images=0 if tested is None else tested[1],
            folder=self.config.out,
        )
        _write(result)
        return result

    def _test(self, winner: Trial) -> tuple[float, int] | None:
        """Evaluates the winner on the data's own validation set, if it came with the data."""
        from forebear.data.sources.registry import read_data
        from forebear.tasks.evaluate import evaluate_on
        from forebear.weights.native_format import load_file

        train_config = self.config.train
        if read_data(train_config.data, train_config.reading).splits_off:
            return None
        network = load_file(self.config.out / winner.folder / BEST)
        measured = evaluate_on(
            network,
            train_config.data,
            reading=train_config.reading,
            part="val",
            device=train_config.device,
            bad=train_config.bad,
        )
        return measured.top1, measured.images


class _Watch:
    """Observes a trial: reports its evaluations, and ends it at a rung or with the time."""

    def __init__(self, search: _Search, asked: Any, *, halves: bool) -> None:
        self.search, self.asked, self.halves = search, asked, halves
        self.planned = search.epochs  # a trial that gets there is complete
        self.state, self.score, self.epochs = "complete", -math.inf, 0.0
        self.value: float | None = None

    def __call__(self, event: Event) -> object:
        """Answers END if the trial is to end."""
        if isinstance(event, TrainingEnd):  # the test set is for the winner alone
            return END
        if isinstance(event, StepEnd) and time.perf_counter() > self.search.ends:
            self.state = "time"
            return END
        if isinstance(event, EpochEnd):
            return self._evaluated(event)
        return None

    def _evaluated(self, event: EpochEnd) -> object:
        values = asdict(event.epoch)
        score = self.search.measure.score(values)
        self.epochs = event.epoch.epoch
        if score > self.score:
            self.score, self.value = score, float(values[self.search.measure.column])
        if not math.isfinite(score) or self.state == "time":
            return None
        self.asked.report(self.score, max(1, round(self.epochs)))
        prunes = self.asked.should_prune()  # also enters the trial in the rung
        if prunes and self.halves and self.epochs < self.planned:
            self.state = "pruned"
            return END
        return None


def _propose(asked: Any, one: Dimension) -> Any:
    """Returns a value that Optuna chooses for a field."""
    if one.choices:
        return asked.suggest_categorical(one.field, one.choices)
    if one.whole:
        return asked.suggest_int(one.field, int(one.low), int(one.high), log=one.log)
    return float(f"{asked.suggest_float(one.field, one.low, one.high, log=one.log):.4g}")


def _write(result: TuneResult) -> None:
    """Writes trials.json, recipe.toml and best/, a copy of the winner's run."""
    out, winner = result.folder, result.winner
    write_text(out / "trials.json", json.dumps(asdict(result), indent=1, default=str) + "\n")
    recipe = read_run(out / winner.folder).part("recipe")
    lines = [f"# The winner of {len(result.trials)} trials of forebear tune: {winner.folder}."]
    lines += [f"{name} = {json.dumps(value)}" for name, value in recipe.items()]
    write_text(out / "recipe.toml", "\n".join(lines) + "\n")
    partial, best = out / ".best", out / "best"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(out / winner.folder, partial, ignore=shutil.ignore_patterns("*.lock"))
    shutil.rmtree(best, ignore_errors=True)
    partial.rename(best)
