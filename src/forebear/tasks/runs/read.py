"""Reads run folders, finished or not, of this version or an older one."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from forebear.errors import ForebearError, RunError
from forebear.limits import METRICS_BYTES
from forebear.network.plan.cost import parameters
from forebear.network.plan.expand import expand
from forebear.tables.files import dialect_from_dict, preprocessing_from_dict, table_from_dict
from forebear.tasks.runs.choosing import MEASURES, Measure, measure_of
from forebear.tasks.runs.layout import METRICS, SETTINGS, WEIGHTS
from forebear.untrusted import parse_json, read_json, read_text

if TYPE_CHECKING:
    from forebear.network.network import Network


@dataclass(frozen=True, eq=False)
class Run:
    """The contents of a run folder; what older runs lack is empty."""

    path: Path
    settings: Mapping[str, Any]
    epochs: tuple[Mapping[str, Any], ...]  # the lines of metrics.jsonl, in order
    finished: bool

    @property
    def network(self) -> str:
        """Name of the network, as given by the user."""
        return str(self.settings.get("network", "?"))

    def part(self, name: str) -> Mapping[str, Any]:
        """Returns a group of settings, such as data or recipe; empty if there is none."""
        part = self.settings.get(name)
        return part if isinstance(part, Mapping) else {}

    @property
    def data(self) -> str:
        """The data set, as given by the user."""
        return str(self.part("data").get("spec", "?"))

    def column(self, name: str) -> list[float]:
        """Returns one number per epoch; nan if a line lacks it or has something else."""
        return [_number(epoch.get(name)) for epoch in self.epochs]

    def last(self, name: str) -> float:
        """Returns the number of the last epoch; nan if there is none."""
        return (self.column(name) or [math.nan])[-1]

    @property
    def best(self) -> int | None:
        """Index in `epochs` of the best one by `measure`, the first if tied; None if none."""
        scores = [self.measure.score(epoch) for epoch in self.epochs]
        known = [at for at, score in enumerate(scores) if score > -math.inf]
        return max(known, key=scores.__getitem__, default=None)

    @property
    def measure(self) -> Measure:
        """The metric that chooses the best epoch."""
        return measure_of(self.part("request"))

    @property
    def planned(self) -> float | None:
        """Planned epochs; None if the recipe gives steps."""
        epochs = _number(self.part("recipe").get("epochs"))
        return epochs if epochs > 0 else None

    @property
    def multi_label(self) -> bool:
        """Whether images can have several labels."""
        return self.part("data").get("multi_label") is True

    @property
    def quality(self) -> Measure:
        """What runs are compared by: top-1 accuracy, or mAP of multi-label images."""
        return MEASURES["mAP" if self.multi_label else "top1"]

    @cached_property
    def tested(self) -> tuple[float, int] | None:
        """Accuracy or mAP on the test set, 0 to 1, and its images; None if there is no test set."""
        try:
            with safe_open(self.path / WEIGHTS, "np") as file:
                metrics = parse_json((file.metadata() or {})["metrics"])
            name = "test_mAP" if self.multi_label else "test_accuracy"
            return float(metrics[name]), int(metrics["test_images"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    @cached_property
    def parameters(self) -> int | None:
        """Trainable parameters of the network; None if the settings do not describe it."""
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
    """Reads a run folder. A line of metrics that was cut in two is left out.

    Raises:
        RunError: The folder is not a run, or its settings cannot be read.
    """
    if not (path / SETTINGS).is_file():
        raise RunError(
            f"{path}: no run: {SETTINGS} is missing. Expected the --out of a forebear train. "
            "Check the path."
        )
    try:
        settings = read_json(path / SETTINGS)
        if not isinstance(settings, dict):
            raise ValueError("no object")
        lines = metric_lines(path)
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path}: its {SETTINGS} or {METRICS} cannot be read ({error}). Expected those of a "
            "run. Train it again with --replace."
        ) from error
    epochs = tuple(epoch for epoch in map(_line, lines) if epoch is not None)
    return Run(path, settings, epochs, (path / WEIGHTS).is_file())


def metric_lines(path: Path) -> list[str]:
    """Returns the lines of a run's metrics.jsonl; none if there is no such file.

    Raises:
        OSError: The file cannot be read, or it is too large.
        ValueError: The file is not UTF-8.
    """
    if not os.path.lexists(path / METRICS):
        return []
    return read_text(path / METRICS, most=METRICS_BYTES).splitlines()


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
        found = "neither a file nor a folder" if path.exists() else "no such folder"
        raise RunError(f"{path}: {found}. Expected the --out of a forebear train. Check the path.")
    if not (path / WEIGHTS).is_file():
        begun = (path / SETTINGS).is_file()
        what = "a run that did not finish" if begun else "no run"
        remedy = "Go on with it by forebear train --resume" if begun else "Check the path"
        raise RunError(f"{path}: {what}: {WEIGHTS} is missing. Expected a finished run. {remedy}.")
    return load_file(path / WEIGHTS)


def _line(line: str) -> Mapping[str, Any] | None:
    try:
        epoch = parse_json(line)
    except ValueError:
        return None
    return epoch if isinstance(epoch, dict) else None


def _number(value: object) -> float:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if numeric else math.nan  # type: ignore[arg-type]
