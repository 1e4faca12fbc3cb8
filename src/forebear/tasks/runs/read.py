"""What a run's folder tells of it: finished or not, of this version or an older one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from forebear.errors import ForebearError, RunError
from forebear.network.plan.cost import parameters
from forebear.network.plan.expand import expand
from forebear.tables.files import dialect_from_dict, preprocessing_from_dict, table_from_dict
from forebear.tasks.runs.layout import METRICS, SETTINGS, WEIGHTS

if TYPE_CHECKING:
    from forebear.network.network import Network


@dataclass(frozen=True, eq=False)
class Run:
    """One run, as its files have it; keys that older runs lack are empty."""

    path: Path
    settings: Mapping[str, Any]
    epochs: tuple[Mapping[str, Any], ...]  # the lines of metrics.jsonl, in order
    finished: bool

    @property
    def network(self) -> str:
        """The network's name, as it was asked for."""
        return str(self.settings.get("network", "?"))

    def part(self, name: str) -> Mapping[str, Any]:
        """A group of settings, such as data or recipe; empty where there is none."""
        part = self.settings.get(name)
        return part if isinstance(part, Mapping) else {}

    @property
    def data(self) -> str:
        """The data set, as it was asked for."""
        return str(self.part("data").get("spec", "?"))

    def column(self, name: str) -> list[float]:
        """One number an epoch; nan where a line lacks it or has something else."""
        return [_number(epoch.get(name)) for epoch in self.epochs]

    def last(self, name: str) -> float:
        """The number of the last line; nan where there is none."""
        return (self.column(name) or [math.nan])[-1]

    @property
    def best(self) -> int | None:
        """The place in `epochs` of the highest held-out accuracy, the first one; None of none."""
        accuracies = self.column("val_accuracy")
        known = [at for at, value in enumerate(accuracies) if not math.isnan(value)]
        return max(known, key=accuracies.__getitem__, default=None)

    @property
    def planned(self) -> float | None:
        """Epochs that the run is to have; None where steps or minutes were given."""
        epochs = _number(self.part("recipe").get("epochs"))
        return epochs if epochs > 0 else None

    @cached_property
    def tested(self) -> tuple[float, int] | None:
        """Accuracy on test pictures, and their number; None where none were kept for that."""
        try:
            with safe_open(self.path / WEIGHTS, "np") as file:
                metrics = json.loads((file.metadata() or {})["metrics"])
            return float(metrics["test_accuracy"]), int(metrics["test_images"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    @cached_property
    def parameters(self) -> int | None:
        """Trainable values of the network; None where the settings do not say what it is."""
        try:
            plan = expand(
                table_from_dict(self.settings["table"]),
                dialect_from_dict(self.settings["dialect"]),
                num_classes=len(self.part("data")["classes"]),
                in_channels=preprocessing_from_dict(self.settings["preprocessing"]).channels,
            )
        except (KeyError, TypeError, ValueError, ForebearError):
            return None
        return parameters(plan)[0]


def read_run(path: Path) -> Run:
    """Reads a run's folder, and leaves out a line of metrics that was cut in two.

    Raises:
        RunError: no folder of a run, or settings that cannot be read.
    """
    if not (path / SETTINGS).is_file():
        raise RunError(
            f"{path}: no run: {SETTINGS} is missing. Expected the --out of a forebear train. "
            "Check the path."
        )
    try:
        settings = json.loads((path / SETTINGS).read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError("no object")
        lines: list[str] = []
        if (path / METRICS).is_file():
            lines = (path / METRICS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path}: its {SETTINGS} or {METRICS} cannot be read ({error}). Expected those of a "
            "run. Train it again with --replace."
        ) from error
    epochs = tuple(epoch for epoch in map(_line, lines) if epoch is not None)
    return Run(path, settings, epochs, (path / WEIGHTS).is_file())


def load_run(path: Path) -> Network:
    """Returns the network of a finished run, or of a checkpoint file.

    Raises:
        RunError: The folder does not exist, or the run did not finish.
        WeightsError: The weights are damaged.
    """
    from forebear.weights.load import load
    from forebear.weights.native_format import load_file

    if path.is_file():
        return load(path)
    if not path.is_dir():
        raise RunError(
            f"{path}: no such folder. Expected the --out of a forebear train. Check the path."
        )
    if not (path / WEIGHTS).is_file():
        begun = (path / SETTINGS).is_file()
        what = "a run that did not finish" if begun else "no run"
        remedy = "Go on with it by forebear train --resume" if begun else "Check the path"
        raise RunError(f"{path}: {what}: {WEIGHTS} is missing. Expected a finished run. {remedy}.")
    return load_file(path / WEIGHTS)


def _line(line: str) -> Mapping[str, Any] | None:
    try:
        epoch = json.loads(line)
    except ValueError:
        return None
    return epoch if isinstance(epoch, dict) else None


def _number(value: object) -> float:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if numeric else math.nan  # type: ignore[arg-type]
