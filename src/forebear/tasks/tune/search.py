"""The trials of a search: Optuna proposes values, and successive halving ends poor trials early."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from forebear.errors import ForebearError, RunError, StopError
from forebear.tasks.runs.choosing import Measure
from forebear.tasks.runs.lock import refuse_links
from forebear.tasks.runs.read import read_run
from forebear.tasks.train.api import train
from forebear.tasks.train.events import END, EpochEnd, Event, StepEnd, TrainingEnd, observe
from forebear.tasks.train.request import TrainConfig
from forebear.tasks.tune.results import State, Trial, baseline
from forebear.tasks.tune.space import Dimension, default_space, idle_fields

REDUCTION = 3  # one trial in so many goes on at a rung; 3 or 4 in Li et al. (arXiv:1603.06560)
FAILURES = 3  # trials in a row after which a search ends: more would fail as well


class Search:
    """A search on its way, new or continued."""

    def __init__(
        self,
        study: Any,
        config: TrainConfig,
        measure: Measure,
        *,
        ends: float,
        say: Callable[[str], None],
    ) -> None:
        """Counts trials whose process was killed as failed.

        Args:
            study: Of Optuna, with the trials so far.
            config: Of the first trial; `out` is the folder of the search.
            measure: What chooses.
            ends: time.perf_counter() at which the search began, plus its time.
            say: Takes a line about each trial.
        """
        import optuna

        assert config.out is not None
        self.study, self.config, self.out = study, config, config.out
        self.measure, self.ends, self.say = measure, ends, say
        self._states = optuna.trial.TrialState
        for one in study.get_trials(states=(self._states.RUNNING,)):
            study.tell(one.number, state=self._states.FAIL)
        earlier = sum(one.seconds for one in self.trials)
        self.ends -= earlier
        self.begun = time.perf_counter() - earlier
        # An earlier process has used the first proposals of the seed.
        seed = (config.seed or 0) + len(study.get_trials())
        study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The trials that have ended, in order."""
        trials = self.study.get_trials(deepcopy=False)
        return tuple(
            Trial(**one.user_attrs["trial"]) for one in trials if "trial" in one.user_attrs
        )

    def run(self, space: tuple[Dimension, ...], most: int | None) -> None:
        """Carries out the unchanged recipe, and then the trials that there is time for.

        Args:
            space: What is searched; empty: the default space around the unchanged recipe.
            most: Number of trials, the unchanged recipe included; failed ones do not count.

        Raises:
            RunError: Trials fail one after the other, or what `train` raises for the first one.
        """
        if baseline(self.trials) is None:
            self._trial(())
        first = baseline(self.trials)
        if first is None:
            raise RunError(
                "the unchanged recipe was not evaluated in time. Expected at least a step and an "
                "evaluation. Pass a longer --time."
            )
        recipe = read_run(self.out / first.folder).part("recipe")
        if not space:
            space = default_space(recipe, fine_tunes=self.config.weights is not None)
        for line in idle_fields(space, recipe):
            self.say(line)
        self.say(f"searches {', '.join(one.text for one in space)}")
        failures = 0
        while time.perf_counter() < self.ends and not self._enough(most):
            failures = failures + 1 if self._trial(space).state == "failed" else 0
            if failures == FAILURES:
                raise RunError(
                    f"{FAILURES} trials failed one after the other, as the lines above say. "
                    "Expected values that can be trained. Narrow --search."
                )

    def _enough(self, most: int | None) -> bool:
        return most is not None and sum(one.state != "failed" for one in self.trials) >= most

    def _trial(self, space: tuple[Dimension, ...]) -> Trial:
        """Trains one run, and tells the study how it ended."""
        self._halve(space)
        asked = self.study.ask()
        values = {one.field: _propose(asked, one) for one in space}
        folder = self.out / f"trial-{asked.number:03d}"
        refuse_links(folder)
        sets = tuple(f"{name}={json.dumps(value)}" for name, value in values.items())
        config = replace(self.config, out=folder, sets=(*self.config.sets, *sets))
        watch = Watch(self, asked, folder, prunes=bool(values))
        begun = time.perf_counter()
        try:
            with observe(watch):
                train(config)
        except (ValueError, ForebearError) as error:
            if not values or isinstance(error, StopError):
                raise
            self.say(f"{folder.name}: {error}")
            watch.state = "failed"
        now = time.perf_counter()
        trial = Trial(
            number=asked.number,
            values=values,
            state=watch.state,
            metric=watch.value,
            epochs=watch.epochs,
            ended=now - self.begun,
            seconds=now - begun,
            folder=folder.name,
        )
        self._tell(asked, trial, watch.score)
        return trial

    def _tell(self, asked: Any, trial: Trial, score: float) -> None:
        asked.set_user_attr("trial", asdict(trial))
        if trial.state == "complete" and math.isfinite(score):
            self.study.tell(asked, score)
        else:
            failed = trial.state == "failed"
            self.study.tell(asked, state=self._states.FAIL if failed else self._states.PRUNED)
        shown = "none" if trial.metric is None else self.measure.text(trial.metric)
        self.say(
            f"{trial.folder} ({trial.changes}): {trial.state}, {self.measure.title} {shown}, "
            f"{trial.seconds:.0f} s"
        )

    def _halve(self, space: tuple[Dimension, ...]) -> None:
        """Makes the pruner of a continued search, whose epochs the first trial knows."""
        first = baseline(self.trials)
        if space and first is not None:
            self.halve(self.out / first.folder)

    def halve(self, folder: Path) -> None:
        """Lets a third of the trials go on at each rung.

        Args:
            folder: A run that has begun, whose recipe gives the rungs.
        """
        import optuna

        self.study.pruner = optuna.pruners.SuccessiveHalvingPruner(
            min_resource=first_rung(read_run(folder).part("recipe")), reduction_factor=REDUCTION
        )


class Watch:
    """Observes a trial: reports its evaluations, and ends it at a rung or with the time."""

    def __init__(self, search: Search, asked: Any, folder: Path, *, prunes: bool) -> None:
        """Observes nothing yet.

        Args:
            search: To which the trial belongs.
            asked: The trial of Optuna.
            folder: Its run folder.
            prunes: Whether the trial may end early.
        """
        self.state: State = "complete"
        self.value: float | None = None  # of the best evaluation
        self.score = -math.inf  # the same, larger if better
        self.epochs = 0.0
        self._search, self._asked, self._folder, self._prunes = search, asked, folder, prunes

    def __call__(self, event: Event) -> object:
        """Answers END if the trial is to end."""
        if isinstance(event, TrainingEnd):  # the test set is for the winner alone
            return END
        if isinstance(event, StepEnd) and time.perf_counter() > self._search.ends:
            self.state = "time"
            return END
        return END if isinstance(event, EpochEnd) and self._poor(event) else None

    def _poor(self, event: EpochEnd) -> bool:
        """Takes an evaluation; returns whether the trial ends with it."""
        self.epochs = event.epoch.epoch
        planned = planned_epochs(self._folder)
        if self.epochs >= planned:  # the time was over in the last step, or not at all
            self.state = "complete"
        values, measure = asdict(event.epoch), self._search.measure
        score = measure.score(values)
        if score > self.score:
            self.score, self.value = score, float(values[measure.column])
        if not math.isfinite(self.score) or self.state == "time":
            return False
        if not self._prunes:
            self._search.halve(self._folder)
        self._asked.report(self.score, max(1, round(self.epochs)))
        poor = bool(self._asked.should_prune())  # enters the trial in the rung as well
        if not (poor and self._prunes and self.epochs < planned):
            return False
        self.state = "pruned"
        return True


def planned_epochs(folder: Path) -> int:
    """Returns the epochs of a run that has begun; 1 if its recipe gives steps."""
    return max(1, int(read_run(folder).planned or 1))


def first_rung(recipe: Mapping[str, Any]) -> int:
    """Returns the epochs after which a trial may first end: a ninth of all, but after the warm-up.

    Before its end an evaluation says which learning rate is lowest, rather than which is best. The
    next rungs are at three times as many epochs each.

    Args:
        recipe: With every choice made.
    """
    epochs = int(recipe.get("epochs") or 1)
    warm = float(recipe.get("head_epochs") or 0) + float(recipe.get("warmup") or 0)
    return max(1, math.ceil(epochs / REDUCTION**2), math.ceil(warm) + 1)


def _propose(asked: Any, one: Dimension) -> Any:
    """Returns a value that Optuna chooses for a field; numbers have four digits."""
    if one.choices:
        return asked.suggest_categorical(one.field, one.choices)
    if one.whole:
        return asked.suggest_int(one.field, int(one.low), int(one.high), log=one.log)
    value = float(f"{asked.suggest_float(one.field, one.low, one.high, log=one.log):.4g}")
    return min(max(value, one.low), one.high)
