"""The trackers of a run. What one of them raises never ends the run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from forebear.files import write_text
from forebear.tasks.runs.layout import INDEX, SETTINGS, TRACKING
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.runs.tracking.mlflow import Mlflow
from forebear.tasks.runs.tracking.names import EPOCH, FINAL, flat, points
from forebear.tasks.runs.tracking.tensorboard import TensorBoard
from forebear.tasks.runs.tracking.tracker import Settings, Tracker, quiet
from forebear.tasks.runs.tracking.trackio import Trackio
from forebear.tasks.runs.tracking.wandb import Wandb
from forebear.text import elided, printable
from forebear.untrusted import read_json

_KINDS: dict[str, Callable[[Path], Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": Mlflow,
    "wandb": Wandb,
    "trackio": Trackio,
}
_MOST = 10**4  # bytes of tracking.json
_ID = re.compile(r"[\w. -]{1,200}")  # what an id can be: no path and no address


def check_installed(names: Sequence[str], folder: Path) -> None:
    """Refuses trackers whose library is missing, before a run has cost anything.

    Args:
        names: Of the trackers.
        folder: Of the run.

    Raises:
        ForebearError: A library cannot be imported.
    """
    for name in names:
        _KINDS[name](folder)


@dataclass(frozen=True, slots=True)
class Tracked:
    """What a run folder keeps of a tracked run."""

    id: str = ""  # in the library; "" for none yet
    step: int = 0  # of its last point


class Trackers:
    """Sends a run to its trackers. One that fails is left out, and a line says so."""

    def __init__(self, names: Sequence[str], folder: Path, say: Callable[[str], None]) -> None:
        """Writes nothing yet.

        Args:
            names: Of the trackers, from `names.TRACKERS`.
            folder: Of the run.
            say: Shows a line.

        Raises:
            ForebearError: A library is not installed.
        """
        self._trackers = {name: _KINDS[name](folder) for name in names}
        self._path, self._say = folder, say
        self._tracked: dict[str, Tracked] = {}
        self._failed = False  # whether the line about tracking.json was shown

    def start(self, settings: Mapping[str, Any], epochs: Sequence[Epoch], *, resumed: bool) -> None:
        """Begins the tracked runs, or continues those of a resumed run.

        Args:
            settings: Those of settings.json.
            epochs: That a resumed run has completed; a tracker gets those that it does not have.
            resumed: Whether the folder's tracked runs are this run's.
        """
        if not self._trackers:
            return
        self._tracked = _read(self._path / TRACKING) if resumed else {}
        self._each(partial(self._start, flat(settings), epochs))
        self._save()

    def _start(
        self, settings: Settings, epochs: Sequence[Epoch], name: str, tracker: Tracker
    ) -> None:
        before = self._tracked.get(name, Tracked())
        found = tracker.start(settings, before.id)
        self._tracked[name] = before if found == before.id else Tracked(found)
        after = self._tracked[name].step
        for epoch in epochs:
            if epoch.step > after:
                self._add(epoch, name, tracker)

    def epoch(self, epoch: Epoch) -> None:
        """Adds the metrics of an epoch."""
        if self._trackers:
            self._each(partial(self._add, epoch))
            self._save()

    def _add(self, epoch: Epoch, name: str, tracker: Tracker) -> None:
        """Adds a point, unless an interrupted run added one of this step or a later one."""
        tracked = self._tracked[name]
        if tracker.replaces or epoch.step > tracked.step:
            tracker.epoch(epoch.step, points(asdict(epoch), EPOCH))
            self._tracked[name] = Tracked(tracked.id, epoch.step)

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Ends the tracked runs with the page, the settings and the metrics of the final weights.

        Args:
            metrics: Of the model card.
        """
        values = points(metrics, FINAL)
        files = [file for name in (INDEX, SETTINGS) if (file := self._path / name).is_file()]

        def finish(name: str, tracker: Tracker) -> None:
            tracker.finish(self._tracked[name].step, values, files)

        self._each(finish)

    def close(self) -> None:
        """Ends the tracked runs that are not finished."""
        self._each(lambda _, tracker: tracker.close())

    def _each(self, do: Callable[[str, Tracker], None]) -> None:
        """Calls a function for each tracker, and leaves out those for which it fails."""
        for name, tracker in list(self._trackers.items()):
            try:
                with quiet():
                    do(name, tracker)
            except Exception as error:  # a library's own errors have no common class
                del self._trackers[name]
                self._say(
                    f"{name}: tracking has stopped ({_reason(error)}). The run goes on, and its "
                    "metrics.jsonl has all numbers."
                )

    def _save(self) -> None:
        """Writes the ids and last steps, by which a resumed run continues."""
        text = json.dumps({name: asdict(one) for name, one in self._tracked.items()}, indent=2)
        try:
            write_text(self._path / TRACKING, f"{text}\n")
        except OSError as error:
            if not self._failed:
                self._say(
                    f"{printable(self._path / TRACKING)}: cannot be written "
                    f"({error.strerror or error}). If the run is resumed, its trackers may get "
                    "points twice."
                )
            self._failed = True


def _reason(error: Exception) -> str:
    return elided(" ".join(str(error).split()), 200) or type(error).__name__


def _read(path: Path) -> dict[str, Tracked]:
    """Returns what tracking.json says; nothing where it is missing or is not as it was written."""
    try:
        data = read_json(path, most=_MOST)
    except (OSError, ValueError):
        return {}
    if not isinstance(data, dict):
        return {}
    return {
        name: Tracked(one["id"], one["step"])
        for name, one in data.items()
        if isinstance(one, dict)
        and isinstance(one.get("id"), str)
        and _ID.fullmatch(one["id"])
        and isinstance(one.get("step"), int)
    }
