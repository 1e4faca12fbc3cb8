from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from forebear.cli.main import main
from forebear.tasks.runs.tracking import trackers
from forebear.tasks.runs.tracking.trackers import Trackers
from forebear.tasks.train.events import EpochEnd, Event, StepStart, observe
from tests.cli.making import folder, table
from tests.tasks.runs.tracking.making import FLAT, SETTINGS, epoch


class Fake:
    """A tracker that keeps what it gets in a list of its class, and fails where it should."""

    replaces = False
    calls: list[tuple[Any, ...]]
    fails: Mapping[str, Exception]
    knows = True  # the runs of earlier processes
    began = 0

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _called(self, name: str, *given: Any) -> None:
        print("noise")
        type(self).calls.append((name, *given))
        if name in self.fails:
            raise self.fails[name]

    def start(self, settings: Mapping[str, Any], known: str) -> str:
        self._called("start", dict(settings), known)
        if known and self.knows:
            return known
        type(self).began += 1
        return f"run-{self.began}"

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        self._called("epoch", step)

    def finish(self, step: int, values: Mapping[str, float], files: Sequence[Path]) -> None:
        self._called("finish", step, dict(values), [file.name for file in files])

    def close(self) -> None:
        self._called("close")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    """The only tracker, in the place of mlflow."""

    class Fresh(Fake):
        calls: list[tuple[Any, ...]] = []  # noqa: RUF012
        fails: Mapping[str, Exception] = {}

    monkeypatch.setitem(trackers._KINDS, "mlflow", Fresh)
    return Fresh


def made(path: Path, lines: list[str] | None = None, *names: str) -> Trackers:
    return Trackers(names or ("mlflow",), path, ([] if lines is None else lines).append)


def test_a_tracker_gets_the_whole_run_and_prints_nothing(
    tmp_path: Path, fake: type[Fake], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index.html").write_text("page")
    run = made(tmp_path)
    run.start(SETTINGS, (), resumed=False)
    run.epoch(epoch(10))
    run.finish({"held_out_accuracy": 0.5, "data": "digits"})
    run.close()
    assert fake.calls == [
        ("start", FLAT, ""),
        ("epoch", 10),
        ("finish", 10, {"final/validation accuracy": 0.5}, ["index.html"]),
        ("close",),
    ]
    assert capsys.readouterr() == ("", "")
    known = json.loads((tmp_path / "tracking.json").read_text())
    assert known == {"mlflow": {"id": "run-1", "step": 10}}


def test_a_resumed_run_continues_the_tracked_run_and_doubles_no_point(
    tmp_path: Path, fake: type[Fake]
) -> None:
    first = made(tmp_path)
    first.start(SETTINGS, (), resumed=False)
    for step in (10, 20):
        first.epoch(epoch(step))
    fake.calls.clear()
    second = made(tmp_path)  # from a checkpoint of step 15
    second.start(SETTINGS, (epoch(10),), resumed=True)
    for step in (20, 30):
        second.epoch(epoch(step))
    assert fake.calls == [("start", FLAT, "run-1"), ("epoch", 30)]


def test_a_tracker_that_replaces_points_gets_them_again(tmp_path: Path, fake: type[Fake]) -> None:
    fake.replaces = True
    first = made(tmp_path)
    first.start(SETTINGS, (), resumed=False)
    for step in (10, 20):
        first.epoch(epoch(step))
    fake.calls.clear()
    second = made(tmp_path)
    second.start(SETTINGS, (epoch(10),), resumed=True)
    second.epoch(epoch(20))
    assert fake.calls == [("start", FLAT, "run-1"), ("epoch", 20)]


@pytest.mark.parametrize("lost", ["file", "run"])
def test_a_tracked_run_that_is_lost_gets_all_points_again(
    tmp_path: Path, fake: type[Fake], lost: str
) -> None:
    first = made(tmp_path)
    first.start(SETTINGS, (), resumed=False)
    first.epoch(epoch(10))
    if lost == "file":
        (tmp_path / "tracking.json").unlink()
    fake.knows = lost == "file"
    fake.calls.clear()
    made(tmp_path).start(SETTINGS, (epoch(10), epoch(20)), resumed=True)
    assert [call[:2] for call in fake.calls][1:] == [("epoch", 10), ("epoch", 20)]


def test_points_that_a_failed_tracker_missed_are_added_when_the_run_is_resumed(
    tmp_path: Path, fake: type[Fake]
) -> None:
    first = made(tmp_path)
    first.start(SETTINGS, (), resumed=False)
    first.epoch(epoch(10))
    fake.fails = {"epoch": ConnectionError("no route")}
    first.epoch(epoch(20))
    fake.fails = {}
    fake.calls.clear()
    made(tmp_path).start(SETTINGS, (epoch(10), epoch(20)), resumed=True)
    assert fake.calls == [("start", FLAT, "run-1"), ("epoch", 20)]


def test_a_new_run_does_not_continue_what_the_folder_had(tmp_path: Path, fake: type[Fake]) -> None:
    (tmp_path / "tracking.json").write_text('{"mlflow": {"id": "old", "step": 90}}')
    made(tmp_path).start(SETTINGS, (), resumed=False)
    assert fake.calls == [("start", FLAT, "")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"mlflow": 3}',
        '{"mlflow": {"id": "../../home", "step": 3}}',
        '{"mlflow": {"id": "", "step": 3}}',
        '{"mlflow": {"id": "http://other", "step": 3}}',
        '{"mlflow": {"id": "good", "step": "3"}}',
        '{"mlflow": {"id": 7, "step": 3}}',
    ],
)
def test_a_damaged_file_counts_as_missing(tmp_path: Path, fake: type[Fake], text: str) -> None:
    (tmp_path / "tracking.json").write_text(text)
    made(tmp_path).start(SETTINGS, (), resumed=True)
    assert fake.calls == [("start", FLAT, "")]


@pytest.mark.parametrize("where", ["start", "epoch", "finish", "close"])
def test_a_tracker_that_fails_is_left_out_after_one_line(
    tmp_path: Path, fake: type[Fake], where: str
) -> None:
    fake.fails = {where: OSError(28, "No space left\non device")}
    lines: list[str] = []
    run = made(tmp_path, lines)
    run.start(SETTINGS, (), resumed=False)
    run.epoch(epoch(10))
    run.epoch(epoch(20))
    run.finish({})
    run.close()
    assert lines == [
        "mlflow: tracking has stopped ([Errno 28] No space left on device). The run goes on, and "
        "its metrics.jsonl has all numbers."
    ]
    assert fake.calls[-1][0] == where


def test_one_tracker_that_fails_does_not_stop_another(
    tmp_path: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bad(Fake):
        calls: list[tuple[Any, ...]] = []  # noqa: RUF012
        fails: Mapping[str, Exception] = {"epoch": RuntimeError()}

    monkeypatch.setitem(trackers._KINDS, "wandb", Bad)
    lines: list[str] = []
    run = made(tmp_path, lines, "wandb", "mlflow")
    run.start(SETTINGS, (), resumed=False)
    for step in (10, 20):
        run.epoch(epoch(step))
    assert fake.calls[1:] == [("epoch", 10), ("epoch", 20)]
    assert [line.partition(".")[0] for line in lines] == [
        "wandb: tracking has stopped (RuntimeError)"
    ]


def test_a_file_of_ids_that_cannot_be_written_is_named_once(
    tmp_path: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trackers, "write_text", full)
    lines: list[str] = []
    run = made(tmp_path, lines)
    run.start(SETTINGS, (), resumed=False)
    run.epoch(epoch(10))
    assert lines == [
        f"{tmp_path / 'tracking.json'}: cannot be written (No space left on device). If the run is "
        "resumed, its trackers may get points twice."
    ]
    assert fake.calls[1:] == [("epoch", 10)]


def test_without_trackers_nothing_is_written(tmp_path: Path) -> None:
    run = Trackers((), tmp_path, print)
    run.start(SETTINGS, (), resumed=False)
    run.epoch(epoch(10))
    run.finish({})
    run.close()
    assert not list(tmp_path.iterdir())


class Crash(BaseException):
    """What no part of a run catches."""


def train(place: Path, out: Path, *more: str) -> list[str]:
    words = (
        "train", "--data", f"folder:{place / 'data'}", "--network", place / "tiny.toml",
        "--dialect", "torchvision", "--size", 16, "--batch", 8, "--threads", 1, "--epochs", 3,
        "--precision", "fp32", "--out", out, *more,
    )  # fmt: skip
    return list(map(str, words))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder(tmp_path / "data")
    table(tmp_path / "tiny.toml")
    return tmp_path


@pytest.mark.long
def test_a_run_that_was_killed_after_a_point_sends_it_once(place: Path, fake: type[Fake]) -> None:
    out, seen = place / "run", []

    def crash(event: Event) -> None:
        if isinstance(event, EpochEnd):
            seen.append(event.epoch.step)
        if isinstance(event, StepStart) and len(seen) == 2:
            raise Crash

    with observe(crash), pytest.raises(Crash):
        main(train(place, out, "--track", "mlflow"))
    assert fake.calls[-1] == ("close",)
    before = [call[1] for call in fake.calls if call[0] == "epoch"]
    assert before == [7, 14]
    newest = max((out / "checkpoints").iterdir())
    newest.unlink()  # as if the run was killed before it was saved
    fake.calls.clear()
    assert main(["train", "--resume", str(out)]) == 0
    assert fake.calls[0][2] == "run-1"
    assert [call[1] for call in fake.calls if call[0] == "epoch"] == [21]
    name, step, values, files = fake.calls[-2]
    assert (name, step, files) == ("finish", 21, ["index.html", "settings.json"])
    assert values.keys() >= {"final/validation accuracy", "final/validation loss"}


def test_a_tracker_that_fails_in_every_call_does_not_end_a_run(
    place: Path, fake: type[Fake], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.fails = {"epoch": RuntimeError("server on fire")}
    assert main(train(place, place / "run", "--track", "mlflow")) == 0
    out, err = capsys.readouterr()
    assert err.count("server on fire") == 1
    assert "noise" not in out
    assert len(out.splitlines()) == 1
    assert (place / "run/model.safetensors").exists()


def test_an_unknown_tracker_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(train(place, place / "run", "--track", "mlflo")) == 2
    assert "Did you mean mlflow?" in capsys.readouterr().err


@pytest.mark.parametrize("names", ["tensorboard", "mlflow", "wandb"])
@pytest.mark.long
def test_the_libraries_themselves_take_a_run_and_its_second_half(
    place: Path, names: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("HOME", str(place / "home"))
    pytest.importorskip(names)
    out = place / "run"

    def crash(event: Event) -> None:
        if isinstance(event, StepStart) and event.step == 10:
            raise Crash

    with observe(crash), pytest.raises(Crash):
        main(train(place, out, "--track", names))
    first = json.loads((out / "tracking.json").read_text())[names]
    assert first["step"] == 7
    assert main(["train", "--resume", str(out)]) == 0
    last = json.loads((out / "tracking.json").read_text())[names]
    assert last == {"id": first["id"], "step": 21}
    said = capfd.readouterr()
    assert "stopped" not in said.err
    assert len(said.out.splitlines()) == 1


def test_nothing_of_a_tracker_is_imported_without_it(place: Path) -> None:
    """A run without --track needs none of the libraries."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("torch.utils.tensorboard", "mlflow", "wandb", "trackio"):
            patch.setitem(sys.modules, name, None)
        assert main(train(place, place / "run")) == 0
    assert not (place / "run/tracking.json").exists()
