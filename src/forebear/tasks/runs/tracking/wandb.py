"""Tracks a run with Weights & Biases: offline in the run folder, unless WANDB_MODE says otherwise.

`wandb sync RUN/wandb/offline-run-*` uploads it later. Its API: https://docs.wandb.ai/ref/python/.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forebear.tasks.runs.tracking.names import PROJECT
from forebear.tasks.runs.tracking.tracker import Settings, imported


def _library() -> Any:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb


class Wandb:
    """A run of Weights & Biases in the project "forebear", or WANDB_PROJECT."""

    replaces = False

    def __init__(self, folder: Path) -> None:
        """Writes nothing yet.

        Args:
            folder: Of the run.

        Raises:
            ForebearError: wandb is not installed.
        """
        self._wandb = imported(_library, "wandb")
        self._folder = folder.absolute()
        self._run: Any = None

    def start(self, settings: Settings, known: str) -> str:
        """Begins a run, or continues the known one in another file of the same id."""
        place = os.environ.get("WANDB_DIR") or str(self._folder)
        quiet = self._wandb.Settings(
            console="off",  # leaves stdout and stderr alone
            silent=True,
            disable_git=True,
            save_code=False,
            symlink=False,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
        )
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=os.environ.get("WANDB_NAME") or self._folder.name,
            id=known or secrets.token_hex(4),
            mode=os.environ.get("WANDB_MODE") or "offline",
            dir=place,
            resume="allow",
            reinit="create_new",  # a run that the calling program tracks is left alone
            config=dict(settings),
            allow_val_change=True,
            settings=quiet,
        )
        return str(self._run.id)

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        """Adds points over the steps."""
        self._run.log(dict(values), step=step, commit=True)

    def finish(self, step: int, values: Mapping[str, float], files: Sequence[Path]) -> None:
        """Adds metrics to the summary, and files, and ends the run."""
        self._run.summary.update(dict(values))
        for file in files:  # copied, as wandb would make links to files that change
            copy = Path(self._run.dir) / file.name
            shutil.copyfile(file, copy)
            self._run.save(str(copy), base_path=self._run.dir, policy="now", glob=False)
        self._end(0)

    def close(self) -> None:
        """Ends a run that is not finished as failed."""
        if self._run is not None:
            self._end(1)

    def _end(self, code: int) -> None:
        run, self._run = self._run, None
        run.finish(exit_code=code)
