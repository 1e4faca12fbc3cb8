"""A run's folder: settings first, a line of metrics an epoch, the weights last.

runs/first/
├── settings.json       everything that the run was made from, versions and seed included
├── metrics.jsonl       one JSON object an epoch
    ├── checkpoint.safetensors   what an unfinished run goes on from; gone when it is finished
├── curves.png          loss, accuracy and learning rate over the epochs
├── confusion.png       true against named classes on the held-out pictures
└── model.safetensors   the network and all that it needs; there only when the run is finished
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from forebear.errors import RunError
from forebear.files import write_text
from forebear.network.network import Network
from forebear.tasks.train.loop import Epoch
from forebear.weights.files import load_file, save
from forebear.weights.load import load

SETTINGS, METRICS, WEIGHTS = "settings.json", "metrics.jsonl", "model.safetensors"
CHECKPOINT = "checkpoint.safetensors"


class RunFolder:
    """The folder of one run, while it is made."""

    def __init__(self, path: Path, *, replace: bool = False) -> None:
        """Looks whether a run may go there: a new folder, an empty one, or an older run's.

        Args:
            path: of the folder; nothing is made or deleted yet.
            replace: an older run may be deleted when this one begins.

        Raises:
            RunError: something is in the way.
        """
        self.path = path
        if path.exists() and not path.is_dir():
            raise RunError(f"{path}: is a file. Expected a folder to make. Pass another --out.")
        if not path.is_dir() or not any(path.iterdir()):
            return
        if not (path / SETTINGS).is_file():
            raise RunError(
                f"{path}: holds files already, and they are no run. Expected a new or an empty "
                "folder. Pass another --out."
            )
        if not replace:
            raise RunError(
                f"{path}: holds files already. Expected a new or an empty folder. Pass another "
                "--out, or --replace to delete the run that is there."
            )

    def begin(self, settings: dict[str, Any]) -> None:
        """Makes the folder, in an older run's place, and writes what the run is made from.

        Raises:
            RunError: the folder cannot be made.
        """
        text = json.dumps(settings, indent=2, ensure_ascii=False)
        try:
            if (self.path / SETTINGS).is_file():
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.path / SETTINGS, f"{text}\n")
        except OSError as error:
            raise RunError(
                f"{self.path}: cannot be made ({error.strerror or error}). Expected a folder that "
                "can be written to. Pass another --out."
            ) from error

    def epoch(self, epoch: Epoch) -> None:
        """Appends one line of metrics."""
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(epoch)) + "\n")

    def weights(self, network: Network) -> None:
        """Writes the network with its card, which makes the folder a finished run."""
        save(network, self.path / WEIGHTS)
        self.checkpoint.unlink(missing_ok=True)

    @property
    def checkpoint(self) -> Path:
        """Where an unfinished run keeps its state."""
        return self.path / CHECKPOINT

    def read(self) -> tuple[dict[str, Any], list[Epoch]]:
        """The settings of an unfinished run, and its epochs.

        Raises:
            RunError: no such run, a finished one, or one without a finished epoch.
        """
        if (self.path / WEIGHTS).is_file():
            raise RunError(
                f"{self.path}: the run is finished. Expected one that broke off. Start another."
            )
        if not self.checkpoint.is_file():
            raise RunError(
                f"{self.path}: no epoch of a run was finished here. Expected {CHECKPOINT}. "
                "Train from the start, with --replace if the folder is there."
            )
        try:
            settings = json.loads((self.path / SETTINGS).read_text(encoding="utf-8"))
            lines = (self.path / METRICS).read_text(encoding="utf-8").splitlines()
            return settings, [Epoch.read(line) for line in lines if line.endswith("}")]
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"{self.path}: its {SETTINGS} or {METRICS} cannot be read ({error}). Expected "
                "those of a run. Train it again with --replace."
            ) from error

    def keep(self, epochs: Sequence[Epoch]) -> None:
        """Writes the metrics anew: a line that a stop cut in two is left out."""
        write_text(self.path / METRICS, "".join(json.dumps(asdict(e)) + "\n" for e in epochs))


def load_run(path: Path) -> Network:
    """The network of a finished run, or of a checkpoint itself.

    Raises:
        RunError: no such folder, or a run that did not finish.
        WeightsError: the weights are damaged.
    """
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
