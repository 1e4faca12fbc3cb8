"""Tracks a run with MLflow: in a database in the run folder, or where MLFLOW_TRACKING_URI says.

Its API: https://mlflow.org/docs/latest/api_reference/python_api/mlflow.client.html. The client is
used, not the module's functions, so that a run that the calling program tracks is left alone.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forebear.errors import ForebearError
from forebear.tasks.runs.layout import MLFLOW
from forebear.tasks.runs.tracking.names import PROJECT
from forebear.tasks.runs.tracking.tracker import Settings, imported
from forebear.text import printable

_WAIT = 30  # seconds to wait for a locked database
_DEFAULTS = {  # of MLflow's variables, where the user has not set them
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # not 7, which hold up a training for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds, not 120
}
_opened = itertools.count()


def _library() -> Any:
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    import mlflow

    if not _uri():  # MLflow needs these two for a database
        import alembic  # noqa: F401
        import sqlalchemy  # noqa: F401
    return mlflow


def _uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI", "")


class Mlflow:
    """A run of MLflow in the experiment "forebear", or MLFLOW_EXPERIMENT_NAME."""

    replaces = False

    def __init__(self, folder: Path) -> None:
        """Writes nothing yet.

        Args:
            folder: Of the run.

        Raises:
            ForebearError: MLflow is not installed.
        """
        self._mlflow = imported(_library, "mlflow")
        self._name = folder.absolute().name
        self._own = None if _uri() else folder.absolute() / MLFLOW
        self._client: Any = None
        self._run = ""

    def start(self, settings: Settings, known: str) -> str:
        """Begins a run, or continues the known one, whose parameters stay as they are."""
        uri = _uri() if self._own is None else _database(self._own)
        self._client = self._mlflow.MlflowClient(tracking_uri=uri)
        if known and self._continues(known):
            self._run = known
            return known
        run = self._client.create_run(self._experiment(), run_name=self._name)
        self._run = run.info.run_id
        params = [self._mlflow.entities.Param(name, str(value)) for name, value in settings.items()]
        self._client.log_batch(self._run, params=params)
        return self._run

    def _continues(self, known: str) -> bool:
        """Whether the run is there; if so, it counts as running again."""
        try:
            self._client.update_run(known, status="RUNNING")
        except self._mlflow.MlflowException:
            return False
        return True

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        place = None if self._own is None else _artifacts(self._own)
        return str(self._client.create_experiment(name, artifact_location=place))

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        """Adds points over the steps."""
        now = int(1000 * time.time())
        entity = self._mlflow.entities.Metric
        metrics = [entity(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def finish(self, step: int, values: Mapping[str, float], files: Sequence[Path]) -> None:
        """Adds metrics and files, and ends the run as finished."""
        self.epoch(step, values)
        place = self._client.get_run(self._run).info.artifact_uri
        # A database of a folder that was moved has the old place, where nothing must be written.
        if self._own is None or place.startswith(f"{_artifacts(self._own)}/"):
            for file in files:
                self._client.log_artifact(self._run, str(file))
        self._end("FINISHED")

    def close(self) -> None:
        """Ends a run that is not finished as killed."""
        if self._run:
            self._end("KILLED")

    def _end(self, status: str) -> None:
        run, self._run = self._run, ""
        self._client.set_terminated(run, status=status)


def _database(folder: Path) -> str:
    """Returns the URI of the database in a folder.

    MLflow keeps what it opened by URI for the life of the process, even if the file was deleted
    since. So each URI differs in the time to wait for a locked database.

    Raises:
        ForebearError: A URI cannot hold the path.
    """
    path = (folder / "mlflow.db").as_posix()
    if any(mark in path for mark in "?#%"):
        raise ForebearError(
            f"{printable(path)}: has one of the characters ? # %. Expected a path without them for "
            "MLflow. Pass another --out, or set MLFLOW_TRACKING_URI."
        )
    return f"sqlite:///{path}?timeout={_WAIT + next(_opened)}"


def _artifacts(folder: Path) -> str:
    return (folder / "artifacts").as_uri()
