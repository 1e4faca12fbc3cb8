"""A run that is settled: what it is made of, what it came to, and what is written down of it."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forebear.data.dataset import Dataset
from forebear.network.network import Network
from forebear.tables.files import table_to_dict
from forebear.tables.preprocessing import Preprocessing
from forebear.tasks.evaluate import Evaluation
from forebear.tasks.machine.device import device_name
from forebear.tasks.machine.distributed import ALONE, World
from forebear.tasks.runs.folder import RunFolder
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.train.budget.timing import StepTimes
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.request import TrainConfig
from forebear.version import __version__

# What a resumed run must be asked for again, beside the recipe
KEPT = (
    "hold_out", "bad", "workers", "threads", "every", "budget", "keep_memory", "tensorboard",
    "compile", "deterministic",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRun:
    """A run, ready to begin or to go on."""

    request: TrainConfig
    name: str  # of the network, as it was asked for
    network: Network
    data: Dataset  # with the part to choose by
    test: Dataset | None = None  # with the part to test on at last, where it is another
    recipe: Recipe
    folder: RunFolder
    device: torch.device
    colours: Preprocessing | None = None  # that the network's weights were trained with
    world: World = ALONE
    notes: tuple[str, ...] = ()
    epochs: tuple[Epoch, ...] = ()  # that are done
    resumes: bool = False
    times: StepTimes | None = None  # under a budget
    imports: float = 0.0  # seconds that the command took to load torch and forebear

    @property
    def title(self) -> str:
        """One line for pictures and displays."""
        return f"{self.name} on {self.data.spec}"

    @property
    def chooses(self) -> bool:
        """Whether the held-out pictures are a validation part, that weights may be chosen by."""
        return self.test is not None or "held out for validation" in self.data.split


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a finished run came to."""

    held_out: Evaluation  # the last one
    test: Evaluation | None  # of the weights chosen, where a validation part chose them
    folder: Path


def settings_of(
    job: PreparedRun, recipe: Recipe, rule: Preprocessing, *, evaluated: int
) -> dict[str, Any]:
    """What settings.json holds: all that the run is made from.

    Args:
        job: the run.
        recipe: as it is carried out.
        rule: what held-out images go through.
        evaluated: held-out images that each evaluation takes; under a budget it can be a part.
    """
    data, request = job.data, job.request
    return {
        "table": table_to_dict(job.network.table),
        "dialect": asdict(job.network.dialect),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "network": job.name,
        "data": {
            "spec": data.spec,
            "classes": data.classes,
            "train": len(data.train),
            "held_out": len(data.val),
            "evaluated": evaluated,
            "split": data.split,
            "fingerprint": data.fingerprint,
        },
        "recipe": asdict(recipe),
        "weights": None if request.weights is None else str(request.weights),
        "request": {name: getattr(request, name) for name in KEPT},
        "preprocessing": asdict(rule),
        "machine": {
            "device": device_name(job.device),
            "threads": torch.get_num_threads(),
            "processes": job.world.size,
            "system": platform.platform(),
        },
        "versions": {
            "forebear": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
