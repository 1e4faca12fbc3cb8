from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import ForebearError
from forebear.tasks.runs.tracking.mlflow import _DEFAULTS, Mlflow
from forebear.tasks.runs.tracking.tracker import quiet
from forebear.tasks.runs.tracking.trackers import Trackers
from tests.tasks.runs.tracking.making import FINAL, FLAT, SETTINGS, epoch, values


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _DEFAULTS:  # and what the tracker sets is gone after the test
        monkeypatch.setenv(name, _DEFAULTS[name])
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    for library in ("mlflow", "alembic", "sqlalchemy"):
        pytest.importorskip(library)


def opened(folder: Path) -> Any:
    import mlflow

    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow/mlflow.db")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the database of MLflow, which takes seconds to make."""
    path = tmp_path_factory.mktemp("empty")
    (path / "mlflow").mkdir()
    with quiet():
        opened(path).get_experiment("0")
    return path


def tracked(folder: Path, *steps: int, known: str = "", finish: bool = True) -> str:
    """The id of a run with points at some steps."""
    with quiet():
        run = Mlflow(folder)
        found = run.start(FLAT, known)
        for step in steps:
            run.epoch(step, values(step))
        if finish:
            run.finish(steps[-1], FINAL, [folder / "index.html"])
        run.close()
    return found


def folder(path: Path, empty: Path) -> Path:
    """A run folder with an empty database."""
    shutil.copytree(empty, path)
    (path / "index.html").write_text("page")
    return path


@pytest.mark.long
def test_mlflow_has_points_parameters_metrics_and_the_page(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/index.html").write_text("page")
    found = tracked(tmp_path / "run", 10, 20)
    with quiet():
        client = opened(tmp_path / "run")
        run = client.get_run(found)
        points = client.get_metric_history(found, "loss/training")
        (page,) = client.list_artifacts(found)
        experiment = client.get_experiment(run.info.experiment_id)
    assert [(one.step, one.value) for one in points] == [(10, 0.1), (20, 0.05)]
    assert run.data.params == {name: str(value) for name, value in FLAT.items()}
    assert run.data.metrics["final/validation accuracy"] == 0.75
    assert (run.info.run_name, run.info.status, experiment.name) == ("run", "FINISHED", "forebear")
    assert page.path == "index.html"
    assert list((tmp_path / "run").rglob("artifacts/index.html"))
    assert {one.name for one in tmp_path.iterdir()} == {"run"}


def test_a_run_that_breaks_off_is_killed_and_continues_under_its_id(
    tmp_path: Path, empty: Path
) -> None:
    path = folder(tmp_path / "run", empty)
    first = tracked(path, 10, finish=False)
    with quiet():
        assert opened(path).get_run(first).info.status == "KILLED"
    assert tracked(path, 20, known=first) == first
    with quiet():
        client = opened(path)
        steps = [one.step for one in client.get_metric_history(first, "loss/training")]
        assert client.get_run(first).info.status == "FINISHED"
    assert steps == [10, 20]


def test_an_unknown_id_begins_a_new_run(tmp_path: Path, empty: Path) -> None:
    assert tracked(folder(tmp_path / "run", empty), 10, known="0" * 32) != "0" * 32


def test_a_folder_that_is_made_again_in_one_process_gets_a_new_database(
    tmp_path: Path, empty: Path
) -> None:
    path = folder(tmp_path / "run", empty)
    tracked(path, 10)
    shutil.rmtree(path)
    found = tracked(folder(path, empty), 20)
    with quiet():
        (run,) = opened(path).search_runs(["1"])
    assert run.info.run_id == found


def test_nothing_is_written_where_a_moved_folder_was(tmp_path: Path, empty: Path) -> None:
    first = tracked(folder(tmp_path / "run", empty), 10, finish=False)
    (tmp_path / "run").rename(tmp_path / "moved")
    assert tracked(tmp_path / "moved", 20, known=first) == first
    assert not (tmp_path / "run").exists()


def test_the_users_tracking_uri_and_experiment_are_used(
    tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(empty / "mlflow", tmp_path / "mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "flowers")
    monkeypatch.chdir(tmp_path)  # where MLflow then puts artifacts
    path = tmp_path / "run"
    path.mkdir()
    (path / "index.html").write_text("page")
    found = tracked(path, 10)
    with quiet():
        client = opened(tmp_path)
        experiment = client.get_experiment_by_name("flowers")
        assert client.get_run(found).info.experiment_id == experiment.experiment_id
    assert {one.name for one in path.iterdir()} == {"index.html"}


def test_a_server_that_does_not_answer_holds_up_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        lines: list[str] = []
        run = Trackers(["mlflow"], tmp_path, lines.append)
        run.start(SETTINGS, (), resumed=False)
    (line,) = lines
    assert line.startswith("mlflow: tracking has stopped (API request to http://127.0.0.1")
    run.epoch(epoch(10))
    assert len(lines) == 1


def test_mlflow_takes_as_many_settings_as_there_are(tmp_path: Path, empty: Path) -> None:
    many: dict[str, str | int | float | bool] = {f"recipe.{n}": "x" * 500 for n in range(250)}
    path = folder(tmp_path / "run", empty)
    with quiet():
        run = Mlflow(path)
        found = run.start(many, "")
        run.close()
        assert len(opened(path).get_run(found).data.params) == 250


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b"])
def test_a_path_that_no_uri_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ForebearError, match=r"one of the characters \? # %\. Expected a path"):
        tracked(tmp_path / name, 10)
    assert {one.name for one in tmp_path.iterdir()} == {name}
