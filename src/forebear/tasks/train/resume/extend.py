"""A finished run that goes on for more epochs, from its final weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.errors import RunError, WeightsError
from forebear.network.network import Network
from forebear.tasks.runs.folder import RunFolder
from forebear.tasks.runs.layout import SETTINGS, WEIGHTS, earlier_weights
from forebear.tasks.runs.lock import refuse_links
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.runs.read import read_run
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.state import TrainState
from forebear.text import elided, printable
from forebear.weights.native_format import load_file


def extend_run(path: Path, epochs: int) -> None:
    """Turns a finished run into one that `resume` continues up to a number of epochs.

    Its settings get the new total. Its weights are kept under another name, and are where the run
    starts from.

    Args:
        path: Its folder.
        epochs: The new total.

    Raises:
        RunError: The run is not finished, was not planned in epochs, has as many already, or has
            a link among its files.
    """
    refuse_links(path)
    run = read_run(path)
    shown = printable(path)
    if not run.finished:
        raise RunError(
            f"{shown}: --epochs {epochs}, but the run is not finished. Expected --epochs for a "
            f"finished run only. Resume it without --epochs first, by forebear train --resume "
            f"{shown}"
        )
    recipe = run.part("recipe")
    done = run.last("epoch")
    if recipe.get("iterations") or run.part("request").get("budget") or done != int(done or 0):
        raise RunError(
            f"{shown}: --epochs {epochs}, but the run was planned in steps or for a time. Expected "
            "a run that was planned in epochs. Start a new run with --weights "
            f"{shown}"
        )
    if epochs <= done:
        raise RunError(
            f"{shown}: --epochs {epochs}, but the run has {done:g} epochs. Expected a larger "
            f"total. Pass --epochs {2 * int(done)}, for example."
        )
    settings = dict(run.settings)
    settings["recipe"] = {**recipe, "epochs": epochs}
    settings["chosen_by"] = {**run.part("chosen_by"), "epochs": "user"}
    settings["extends"] = {"epoch": int(done), "epochs": recipe.get("epochs")}
    try:
        RunFolder(path, replace=True).extend(settings, int(done))
    except OSError as error:
        raise RunError(
            f"{shown}: its {SETTINGS} or {WEIGHTS} cannot be written ({error.strerror or error}). "
            "Expected a folder that can be written to. Check its permissions and the disk."
        ) from error


@dataclass(frozen=True, slots=True)
class Extension:
    """Where a run that is extended starts."""

    state: TrainState
    planned: int  # epochs that the run was planned for before

    @classmethod
    def read(cls, data: Any, epochs: Sequence[Epoch]) -> Extension:
        """Returns the extension that settings.json describes.

        Raises:
            ValueError: The metrics do not reach that far.
            KeyError, TypeError: The description is damaged.
        """
        done, planned = int(data["epoch"]), int(data["epochs"] or data["epoch"])
        if not epochs or epochs[-1].epoch != done:
            raise ValueError(f"it extends epoch {done}, which is not the last of its metrics")
        last = epochs[-1]
        state = TrainState(
            step=last.step, epoch=done + 1, seconds=last.seconds, skipped=last.skipped
        )
        return cls(state, planned)

    def load(self, path: Path, network: Network, recipe: Recipe) -> str:
        """Loads the weights of the finished run, and returns a line about the schedule.

        Raises:
            WeightsError: The weights are missing, damaged, or of another network.
        """
        done = self.state.epoch - 1
        saved = load_file(path / earlier_weights(done))
        try:
            network.load_state_dict(saved.state_dict())
        except RuntimeError as error:
            raise WeightsError(
                f"{printable(path / earlier_weights(done))}: its arrays are not those of the "
                f"network in {SETTINGS} ({elided(error, 200)}). Expected the weights of this run. "
                "Restore both files, or train again with --replace."
            ) from error
        return (
            f"extending the run from epoch {done} to {recipe.epochs}: the learning rate goes on as "
            f"if {recipe.epochs} epochs had been planned from the start, not {self.planned}; the "
            f"optimizer's momentum starts at zero; the weights so far are kept in "
            f"{earlier_weights(done)}"
        )
