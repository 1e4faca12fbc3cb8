"""Tracks a run with trackio: in the run folder, unless TRACKIO_DIR says otherwise.

Its API: https://huggingface.co/docs/trackio/api. No release can be installed with forebear yet: all
need pillow below 13, and forebear needs 13 or later. So there is no extra.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forebear.tasks.runs.layout import TRACKIO
from forebear.tasks.runs.tracking.names import PROJECT
from forebear.tasks.runs.tracking.tracker import Settings, imported

_REMEDY = (
    "Its releases need pillow below 13 and forebear needs 13 or later, so pip cannot install both: "
    "pass --track tensorboard, mlflow or wandb."
)


class Trackio:
    """A run of trackio in the project "forebear".

    trackio reads TRACKIO_DIR when it is imported. If one process trains several runs, all are in
    the folder of the first.
    """

    replaces = False

    def __init__(self, folder: Path) -> None:
        """Writes nothing yet.

        Args:
            folder: Of the run.

        Raises:
            ForebearError: trackio is not installed.
        """

        def library() -> Any:
            os.environ.setdefault("TRACKIO_DIR", str(folder.absolute() / TRACKIO))
            import trackio

            return trackio

        self._trackio = imported(library, "trackio", _REMEDY)
        self._folder = folder.absolute()
        self._run: Any = None

    def start(self, settings: Settings, known: str) -> str:
        """Begins a run, or continues the known one. The id of a run is its name."""
        name = known or f"{self._folder.name}-{secrets.token_hex(4)}"
        self._run = self._trackio.init(
            project=PROJECT,
            name=name,
            config=dict(settings),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
        )
        return name

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        """Adds points over the steps."""
        self._run.log(dict(values), step=step)

    def finish(self, step: int, values: Mapping[str, float], files: Sequence[Path]) -> None:
        """Adds metrics and ends the run. trackio's files belong to projects, so it gets none."""
        self.epoch(step, values)
        self.close()

    def close(self) -> None:
        """Ends the run."""
        if self._run is not None:
            run, self._run = self._run, None
            run.finish()
