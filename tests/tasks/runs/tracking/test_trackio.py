"""Against a stand-in of trackio's documented functions: it cannot be installed with forebear."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from forebear.errors import ForebearError
from forebear.tasks.runs.tracking.trackio import Trackio
from tests.tasks.runs.tracking.making import FINAL, FLAT, values


class Run:
    """A run of the stand-in."""

    def __init__(self, **given: Any) -> None:
        self.given = given
        self.points: list[tuple[int | None, dict[str, float]]] = []
        self.ended = 0

    def log(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.points.append((step, metrics))

    def finish(self) -> None:
        self.ended += 1


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs that the stand-in began."""
    began: list[Run] = []

    def init(
        project: str,
        name: str | None = None,
        *,
        config: dict[str, Any] | None = None,
        resume: str = "never",
        embed: bool = True,
        auto_log_gpu: bool | None = None,
    ) -> Run:
        gpu = auto_log_gpu
        began.append(Run(project=project, name=name, config=config, resume=resume, gpu=gpu))
        return began[-1]

    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(init=init))
    return began


def test_trackio_has_points_settings_and_metrics_in_the_run_folder(
    tmp_path: Path, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Trackio(tmp_path / "first")
    name = tracker.start(FLAT, "")
    tracker.epoch(10, values(10))
    tracker.finish(10, FINAL, [])
    tracker.close()
    (run,) = runs
    assert name.startswith("first-")
    assert run.given == {
        "project": "forebear", "name": name, "config": FLAT, "resume": "allow", "gpu": False,
    }  # fmt: skip
    assert run.points == [(10, values(10)), (10, FINAL)]
    assert run.ended == 1
    assert os.environ["TRACKIO_DIR"] == str(tmp_path / "first/trackio")
    monkeypatch.delenv("TRACKIO_DIR")


def test_a_run_that_breaks_off_continues_under_its_name(tmp_path: Path, runs: list[Run]) -> None:
    first = Trackio(tmp_path)
    name = first.start(FLAT, "")
    first.close()
    assert Trackio(tmp_path).start(FLAT, name) == name
    assert [run.given["name"] for run in runs] == [name, name]


def test_the_users_folder_is_used(
    tmp_path: Path, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", "mine")
    Trackio(tmp_path).start(FLAT, "")
    assert runs
    assert os.environ["TRACKIO_DIR"] == "mine"


def test_without_trackio_the_error_says_why_there_is_no_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", "mine")
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(ForebearError, match=r"releases need pillow below 13.* --track tensorboard"):
        Trackio(tmp_path)
