"""Runs that are killed, stopped, or left without room: what they had saved is what they go on with.

Here they break off in this process, or in one other; benchmarks/kills.py has the real SIGKILLs.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from forebear.cli.main import main
from forebear.data.loader import Loader
from forebear.errors import RunError
from forebear.network.network import Network
from forebear.tasks.runs.folder import RunFolder
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.train import artifacts, prepare, recorder
from forebear.tasks.train.artifacts import Artifacts
from forebear.tasks.train.events import (
    EpochEnd,
    EvaluationStart,
    Event,
    Started,
    StepEnd,
    StepStart,
    observe,
)
from forebear.tasks.train.progress_bar import ProgressBar
from forebear.tasks.train.resume.checkpoint import checkpoints, load_checkpoint
from forebear.weights.native_format import digest, load_file
from tests.cli.making import folder, image, table

STEPS, EPOCHS, EVERY = 7, 3, 3  # steps an epoch, epochs, steps between two saves
LAST = STEPS * EPOCHS
RECIPE = (
    "optimizer=muon", "lr=0.02", "crop=resized", "mirror=random", "mixup=0.2", "ema=0.9",
    "batch_norm=own", "label_smoothing=0.1", "eval_size=16", "seed=3",
)  # fmt: skip

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["forebear.cli.main", "forebear.tasks.train.api"])


@pytest.fixture(autouse=True)
def _in_the_foreground() -> Iterator[None]:
    """A shell has what it starts in the background ignore SIGINT, these tests too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Crash(BaseException):
    """What no part of a run catches."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny images and a tiny table."""
    found = tmp_path_factory.mktemp("crash")
    folder(found / "data")
    table(found / "tiny.toml")
    return found


@pytest.fixture(scope="module")
def whole(place: Path) -> tuple[str, list[dict[str, str]]]:
    """The marks of a run that nothing happened to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "can_draw", bool)
        torch.set_num_threads(1)
        assert main(train(place, place / "whole")) == 0
    return marks(place / "whole")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "can_draw", bool)
    monkeypatch.setattr(artifacts, "can_draw", bool)


def train(place: Path, out: Path, *more: Any) -> list[str]:
    """The words of the run that all here is about."""
    words: tuple[Any, ...] = (
        "train", "--data", f"folder:{place / 'data'}", "--network", place / "tiny.toml",
        "--dialect", "torchvision", "--out", out, "--size", 16, "--batch", 8, "--threads", 1,
        "--epochs", EPOCHS, "--save-every", EVERY,
        *(word for one in RECIPE for word in ("--set", one)), *more,
    )  # fmt: skip
    return list(map(str, words))


def resume(out: Path, *more: Any) -> int:
    return main(["train", "--resume", str(out), *map(str, more)])


def marks(out: Path) -> tuple[str, list[dict[str, str]]]:
    """SHA-256 of the final weights, and all numbers of the metrics that no clock enters."""
    names = (
        "epoch", "step", "lr", "loss", "accuracy", "val_loss", "val_accuracy", "skipped",
        "losses", "lrs",
    )  # fmt: skip

    def written(value: Any) -> str:
        if isinstance(value, list):
            return " ".join(map(written, value))
        return float(value).hex()

    assert not list(out.rglob(".*"))
    return digest(load_file(out / "model.safetensors").state_dict()), [
        {name: written(line[name]) for name in names} for line in metrics(out)
    ]


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def saved(out: Path) -> int:
    """The step of the newest checkpoint, each of which must be whole."""
    assert load_checkpoint(out / "checkpoints")[2] == []
    return load_checkpoint(out / "checkpoints")[1].step


EVENTS: dict[str, type[Event]] = {
    "before step": StepStart,
    "after step": StepEnd,
    "before evaluation": EvaluationStart,
    "after evaluation": EpochEnd,
}
CALLS = {
    "line": (RunFolder, "epoch"),
    "saving": (recorder, "save_checkpoint"),
    "settings": (RunFolder, "begin"),
    "weights": (RunFolder, "weights"),
    "images": (Artifacts, "mistakes"),
    "decoding": (ProgressBar, "decoding"),
    "batch": (Loader, "in_order"),
}


@contextmanager
def at(point: str, number: int, do: Callable[[], object]) -> Iterator[None]:
    """Has something happen at the n-th event of a kind, or before or after the n-th call."""
    calls = 0
    if point in EVENTS:

        def observed(event: Event) -> None:
            nonlocal calls
            if isinstance(event, EVENTS[point]):
                calls += 1
                if calls == number:
                    do()

        with observe(observed):
            yield
        return
    when, what = point.split(" ")
    owner, name = CALLS[what]
    call = getattr(owner, name)

    def patched(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        mine = calls == number
        if mine and when == "before":
            do()
        result = call(*args)
        if mine and when == "after":
            do()
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, patched)
        yield


def crash() -> None:
    raise Crash


def send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


# Breaking off


POINTS = [
    *(("before step", step) for step in (1, 2, 4, 7, 8, 15, 21)),
    *(("after step", step) for step in (7, 21)),
    *((f"{when} {what}", number)
      for what in ("evaluation", "line") for when in ("before", "after") for number in (1, 3)),
    *((f"{when} saving", number) for when in ("before", "after") for number in (2, 4, 9, 10)),
    ("before images", 1), ("before weights", 1),
]  # fmt: skip


@pytest.mark.parametrize(("point", "number"), POINTS)
@pytest.mark.long(after=1)
def test_a_run_that_breaks_off_anywhere_ends_in_the_same_bits(
    tmp_path: Path, place: Path, whole: Any, point: str, number: int
) -> None:
    out = tmp_path / "run"
    with at(point, number, crash), pytest.raises(Crash):
        main(train(place, out))
    saved(out)
    assert not (out / "model.safetensors").exists()
    assert resume(out) == 0
    assert marks(out) == whole


def test_a_run_that_breaks_off_again_and_again_ends_in_the_same_bits(
    tmp_path: Path, place: Path, whole: Any
) -> None:
    out = tmp_path / "run"
    with at("before step", 2, crash), pytest.raises(Crash):
        main(train(place, out))
    for _ in range(LAST // EVERY - 1):  # each goes on by one checkpoint and two steps
        with at("before step", EVERY + 2, crash), pytest.raises(Crash):
            resume(out)
    assert resume(out) == 0
    assert marks(out) == whole


def test_a_run_killed_before_its_first_checkpoint_begins_anew(
    tmp_path: Path, place: Path, whole: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with at("after settings", 1, crash), pytest.raises(Crash):
        main(train(place, out))
    assert checkpoints(out / "checkpoints") == []
    assert resume(out) == 0
    assert marks(out) == whole
    begun = tmp_path / "begun"
    with at("after settings", 1, crash), pytest.raises(Crash):
        main(train(place, begun, "--weights", out / "model.safetensors"))
    capsys.readouterr()
    assert resume(begun) == 2  # nothing says that the file is still the same
    assert "killed before its first checkpoint" in capsys.readouterr().err


def test_a_run_whose_checkpoints_are_gone_is_not_begun_anew_over_its_metrics(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with at("before step", STEPS + 2, crash), pytest.raises(Crash):
        main(train(place, out))
    shutil.rmtree(out / "checkpoints")
    lines = (out / "metrics.jsonl").read_text()
    assert resume(out) == 2
    assert "its checkpoints are gone" in capsys.readouterr().err
    assert (out / "metrics.jsonl").read_text() == lines


def test_a_kill_before_the_settings_leaves_a_folder_that_can_be_used(
    tmp_path: Path, place: Path, whole: Any
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / ".lock").write_text("1\n")
    (out / ".settings.json.1.tmp.json").write_text("{")
    assert main(train(place, out)) == 0
    assert marks(out) == whole


def test_what_a_kill_leaves_half_written_is_cleared(
    tmp_path: Path, place: Path, whole: Any
) -> None:
    out = tmp_path / "run"
    with at("before step", STEPS + 2, crash), pytest.raises(Crash):
        main(train(place, out))
    (out / ".lock").write_text("1\n")
    (out / ".best.safetensors.1.tmp.safetensors").write_bytes(b"half")
    (out / "checkpoints" / ".step-00000009.safetensors.1.tmp.safetensors").write_bytes(b"half")
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "lr": 0.')
    assert resume(out) == 0
    assert marks(out) == whole


def test_checkpoints_left_beside_finished_weights_are_taken_away(
    tmp_path: Path, place: Path, whole: Any
) -> None:
    out = tmp_path / "run"
    with at("after weights", 1, crash), pytest.raises(Crash):
        main(train(place, out))
    (out / "checkpoints").mkdir()
    assert resume(out) == 2
    assert not (out / "checkpoints").exists()
    assert marks(out) == whole


@pytest.mark.slow
def test_three_runs_killed_by_sigkill_end_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(__file__).parents[3] / "benchmarks" / "kills.py"
    spec = importlib.util.spec_from_file_location("kills", path)
    assert spec is not None
    assert spec.loader is not None
    kills = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "kills", kills)  # dataclasses look their module up
    spec.loader.exec_module(kills)
    done = kills.trials(tmp_path, 2, 1, seed=7)
    assert [trial.identical for trial in done] == [True] * 3
    assert sum(trial.lost_bytes for trial in done) == 0


# Signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize(
    ("point", "steps"),
    [("before step", 1), ("after step", 5), ("after step", STEPS), ("after step", LAST)],
)
@pytest.mark.long(after=1)
def test_a_signal_ends_a_run_after_its_step_with_nothing_lost(
    tmp_path: Path, place: Path, whole: Any, capfd: pytest.CaptureFixture[str],
    point: str, steps: int, number: int, code: int,
) -> None:  # fmt: skip
    out = tmp_path / "run"
    with at(point, steps, send(number)):
        assert main(train(place, out)) == code
    told = capfd.readouterr().err
    note = "finishing this step and saving a checkpoint; press Ctrl-C again to quit at once"
    assert f"forebear: {note}\n" in told
    assert told.splitlines()[-1].startswith("forebear: stopped by a signal")
    assert told.splitlines()[-1].endswith(f"To go on: forebear train --resume {out}")
    assert "Traceback" not in told
    assert saved(out) == steps
    assert resume(out) == 0
    assert marks(out) == whole


def test_a_signal_during_an_evaluation_breaks_it_off_and_it_is_made_up_for(
    tmp_path: Path, place: Path, whole: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    for epoch in (1, EPOCHS):
        out = tmp_path / f"run-{epoch}"
        with at("before batch", epoch, send(signal.SIGTERM)):
            assert main(train(place, out)) == 143
        assert "stopped by a signal during an evaluation. To go on" in capfd.readouterr().err
        assert saved(out) == epoch * STEPS
        assert len(metrics(out) if epoch > 1 else []) == epoch - 1
        assert resume(out) == 0
        assert marks(out) == whole


def test_a_signal_before_the_first_step_ends_at_once_and_leaves_nothing(
    tmp_path: Path, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        with at("before decoding", 1, send(number)):
            assert main(train(place, tmp_path / "run")) == code
        told = capfd.readouterr().err.splitlines()
        assert told[-1] == (
            "forebear: stopped by a signal before the first step. No run was begun."
        )
        assert not (tmp_path / "run").exists()


def test_a_signal_while_a_run_that_goes_on_decodes_leaves_it_as_it_was(
    tmp_path: Path, place: Path, whole: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with at("before step", 5, crash), pytest.raises(Crash):
        main(train(place, out))
    with at("before decoding", 1, send(signal.SIGTERM)):
        assert resume(out) == 143
    assert f"To go on: forebear train --resume {out}" in capfd.readouterr().err
    assert resume(out) == 0
    assert marks(out) == whole


def test_a_signal_during_the_last_images_lets_the_run_finish(
    tmp_path: Path, place: Path, whole: Any
) -> None:
    out = tmp_path / "run"
    with at("before images", 1, send(signal.SIGTERM)):
        assert main(train(place, out)) == 0
    assert marks(out) == whole


def test_the_handlers_are_given_back_and_an_ignored_signal_stays_ignored(
    tmp_path: Path, place: Path, whole: Any
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as of a shell's background job
    try:
        with at("before step", 5, send(signal.SIGINT)):
            assert main(train(place, tmp_path / "run")) == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert signal.getsignal(signal.SIGTERM) is before
    assert marks(tmp_path / "run") == whole


def child(words: list[str], point: str, number: int, ready: Any) -> None:
    """Runs forebear in another process, and stands still at a point."""
    torch.set_num_threads(1)
    prepare.can_draw = bool  # type: ignore[attr-defined]

    def wait() -> None:
        ready.set()
        time.sleep(60)

    with at(point, number, wait):
        os._exit(main(words))


@contextmanager
def standing(words: list[str], point: str, number: int) -> Iterator[BaseProcess]:
    """Another process that stands still at a point of its run."""
    ready = _server.Event()
    process = _server.Process(target=child, args=(words, point, number, ready))
    process.start()
    try:
        assert ready.wait(60)
        yield process
    finally:
        process.kill()
        process.join(60)


@pytest.mark.long
def test_a_second_signal_ends_at_once_and_what_was_saved_is_whole(
    tmp_path: Path, place: Path, whole: Any
) -> None:
    out = tmp_path / "run"
    with standing(train(place, out), "before step", 5) as process:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGTERM)  # it sleeps on, as in a step that takes long
        time.sleep(0.3)
        assert process.is_alive()
        os.kill(process.pid, signal.SIGTERM)
        process.join(60)  # the step itself would sleep far longer
        assert process.exitcode == 143
    assert saved(out) == EVERY
    assert resume(out) == 0
    assert marks(out) == whole


# Two runs in one folder


@pytest.mark.long
def test_a_folder_in_use_is_refused_with_its_owner_until_that_is_killed(
    tmp_path: Path, place: Path, whole: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with standing(train(place, out), "before step", 5) as process:
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for words in (train(place, out, "--replace"), ["train", "--resume", str(out)]):
            assert main(words) == 2
            told = capsys.readouterr().err
            assert f"{out}: process {process.pid} is training here." in told
        assert main(train(place, out)) == 2
        assert {path: path.read_bytes() for path in before} == before
        process.kill()
        process.join(60)
        assert (out / ".lock").exists()  # which nobody holds
        assert resume(out) == 0
    assert marks(out) == whole


def test_a_run_that_ended_while_another_decoded_is_not_deleted_by_it(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"

    def other() -> None:
        run = RunFolder(out)
        run.begin({"other": 1})
        run.close()

    with at("before decoding", 1, other):
        assert main(train(place, out)) == 2
    assert "holds files already" in capsys.readouterr().err
    assert json.loads((out / "settings.json").read_text())["other"] == 1


def test_a_lock_whose_owner_takes_it_away_meanwhile_is_taken_anew(tmp_path: Path) -> None:
    import fcntl

    first, second, third = (RunFolder(tmp_path / "run", replace=True) for _ in range(3))
    first.begin({})
    lock = fcntl.flock

    def late(handle: int, how: int) -> None:  # between the opening and the locking
        first.close()
        lock(handle, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", late)
        second.hold()
    with pytest.raises(RunError, match=f"process {os.getpid()} is training here"):
        third.hold()
    second.close()
    assert not (tmp_path / "run" / ".lock").exists()
    third.hold()
    third.close()


def test_a_folder_on_a_file_system_without_locks_is_used_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def flock(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    first, second = (RunFolder(tmp_path / "run", replace=True) for _ in range(2))
    first.begin({})
    second.hold()
    monkeypatch.setattr(fcntl, "flock", lambda handle, how: os.fstat(-1))
    with pytest.raises(OSError, match="Bad file descriptor"):
        second.hold()


# No room


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_without_room_for_a_checkpoint_is_refused_before_the_first_step(
    tmp_path: Path, place: Path, whole: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with room(10_000), at("before step", 1, crash):
        assert main(train(place, out)) == 74
    told = capsys.readouterr().err.splitlines()[-1]
    assert "the first checkpoint cannot be written (File too large)" in told
    assert resume(out) == 0
    assert marks(out) == whole


def test_a_full_disk_is_told_by_the_bytes_that_are_missing(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors import SafetensorError

    def full(*_: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("forebear.tasks.train.resume.checkpoint.save_file", full)
    assert main(train(place, tmp_path / "run")) == 74
    told = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device: 0.1 MiB needed, " in told


def test_a_disk_that_fills_up_costs_checkpoints_but_not_those_before(
    tmp_path: Path, place: Path, whole: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    limits = []

    def fill() -> None:
        limits.append(room(10_000))
        limits[-1].__enter__()

    with at("before step", 5, fill):
        try:
            assert main(train(place, out)) == 74
        finally:
            limits[-1].__exit__(None, None, None)
    told = capsys.readouterr().err
    assert "no checkpoint after step 6 (File too large); the one before is whole." in told
    assert "the trained weights cannot be written (File too large)" in told.splitlines()[-1]
    assert f"go on by forebear train --resume {out}" in told.splitlines()[-1]
    assert saved(out) == 3
    assert resume(out) == 0
    assert marks(out) == whole


def epoch(number: int) -> Epoch:
    return Epoch(
        epoch=number, step=number, lr=0.1, loss=1.0, accuracy=0.5, val_loss=1.0, val_accuracy=0.5,
        images_per_second=1.0, seconds=1.0, skipped=0, memory=1.0, losses=(1.0,), lrs=(0.1,),
    )  # fmt: skip


def test_a_line_of_metrics_that_finds_no_room_is_taken_back_and_written_later(
    tmp_path: Path,
) -> None:
    run = RunFolder(tmp_path / "run")
    run.begin({})
    run.epoch(epoch(1))
    before = (run.path / "metrics.jsonl").read_bytes()
    with room(len(before) + 20):
        for number in (2, 3):
            with pytest.raises(OSError, match="File too large|No space left"):
                run.epoch(epoch(number))
            assert (run.path / "metrics.jsonl").read_bytes() == before
    run.epoch(epoch(4))
    assert [line["epoch"] for line in metrics(run.path)] == [1, 2, 3, 4]
    run.close()


def test_images_that_cannot_be_written_cost_the_run_nothing(
    tmp_path: Path, place: Path, whole: Any, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("draw_curves", "draw_confusion", "draw_mistakes", "draw_sheet", "write_index"):
        monkeypatch.setattr(artifacts, name, full)
    monkeypatch.setattr(artifacts, "can_draw", lambda: True)
    assert main(train(place, tmp_path / "run")) == 0
    assert "not all can be written (No space left on device)." in capsys.readouterr().err
    assert marks(tmp_path / "run") == whole


def test_a_place_that_cannot_be_written_to_is_refused_before_data_are_read(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(*_: object) -> None:
        raise Crash

    monkeypatch.setattr("forebear.tasks.train.setup.read_data", read)
    (tmp_path / "file").write_text("precious")
    for out, why in (
        (tmp_path / "file", "is a file. Expected a folder to make."),
        (tmp_path / "file" / "run", f"cannot be made, {tmp_path / 'file'} is a file."),
        (place / "whole", "holds files already."),
    ):
        assert main(train(place, out)) == 2
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 1
        assert why in told[0]
    assert (tmp_path / "file").read_text() == "precious"
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere else
    assert main(train(place, tmp_path / "run")) == 2
    assert f"cannot be made, {tmp_path} is read-only." in capsys.readouterr().err


def test_a_file_system_that_makes_no_folders_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("no /proc")
    assert main(train(place, Path("/proc/forebear"))) == 2
    told = capsys.readouterr().err
    assert told.splitlines()[-1].startswith("forebear: /proc/forebear: cannot be made")
    assert "Traceback" not in told


# Not finite


def test_steps_that_are_not_finite_are_counted_and_leave_no_trace_in_the_metrics(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with nan_at(1, 8, 9, 10):
        assert main(train(place, tmp_path / "run")) == 0
    lines = metrics(tmp_path / "run")
    assert [line["skipped"] for line in lines] == [1, 4, 4]
    for line in lines:
        for value in (line["loss"], line["accuracy"], *line["losses"]):
            assert value == pytest.approx(value, abs=0)  # no NaN
    assert [len(line["losses"]) for line in lines] == [STEPS - 1, STEPS - 3, STEPS]
    assert "4 steps skipped" in capsys.readouterr().err


def test_four_steps_in_a_row_end_the_run_with_its_last_good_weights_saved(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with nan_at(5, 6, 7, 8):
        assert main(train(place, out)) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "not finite at 4 steps in a row, up to step 8." in told
    state, record, damaged = load_checkpoint(out / "checkpoints")
    assert (record.step, record.skipped, record.in_row, damaged) == (8, 4, 4, [])
    assert all(bool(value.isfinite().all()) for value in state["network"].values())
    before = tmp_path / "before"
    with at("before step", 5, send(signal.SIGTERM)), nan_at(5):
        assert main(train(place, before)) == 143
    good = load_checkpoint(before / "checkpoints")[0]["network"]
    assert all(torch.equal(state["network"][name], value) for name, value in good.items())
    assert resume(out) == 0  # past what was not finite, if it was the images' fault


def test_a_run_that_goes_on_counts_what_is_not_finite_as_an_unbroken_one(
    tmp_path: Path, place: Path
) -> None:
    out = tmp_path / "run"
    with nan_at(5, 6, 7, 8):
        with at("after step", 7, send(signal.SIGTERM)):
            assert main(train(place, out)) == 143
        assert saved(out) == 7
        assert resume(out) == 2
    assert saved(out) == 8


def test_weights_that_are_not_finite_are_never_saved(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    networks: list[Network] = []

    def found(event: Event) -> None:
        if isinstance(event, Started):
            networks.append(event.network)

    def spoil() -> None:
        with torch.no_grad():
            next(iter(networks[-1].parameters()))[0, 0, 0, 0] = float("inf")

    with observe(found), at("after step", 6, spoil):
        assert main(train(place, out)) == 2
    assert "no longer finite, and are not saved" in capsys.readouterr().err
    assert saved(out) == 3


@contextmanager
def nan_at(*steps: int) -> Iterator[None]:
    """Puts a NaN into an image of these steps of a run, counted from 1."""
    view, now = Loader.view, 0

    def counted(event: Event) -> None:
        nonlocal now
        if isinstance(event, StepStart):
            now = event.step

    def spoiled(batches: Loader, *args: Any) -> Any:
        images, labels = view(batches, *args)
        if now in steps:
            images[0, 0, 3, 3] = float("nan")
        return images, labels

    with pytest.MonkeyPatch.context() as patch, observe(counted):
        patch.setattr(Loader, "view", spoiled)
        yield


# What has changed meanwhile


def broken(place: Path, out: Path) -> Path:
    with at("before step", 5, crash), pytest.raises(Crash):
        main(train(place, out))
    return out


@pytest.mark.parametrize("workers", [0, 2])
def test_other_workers_change_no_bit(tmp_path: Path, place: Path, whole: Any, workers: int) -> None:
    out = broken(place, tmp_path / "run")
    settings = json.loads((out / "settings.json").read_text())
    settings["request"]["workers"] = workers
    (out / "settings.json").write_text(json.dumps(settings))
    assert resume(out) == 0
    assert marks(out) == whole


def test_a_run_begun_with_graphs_of_a_gpu_goes_on_without(
    tmp_path: Path, place: Path, whole: Any
) -> None:
    out = broken(place, tmp_path / "run")
    settings = json.loads((out / "settings.json").read_text())
    assert settings["request"]["compile"] == "off"  # settled, so that it stays
    settings["request"]["compile"] = "graphs"
    (out / "settings.json").write_text(json.dumps(settings))
    assert resume(out) == 0
    assert marks(out) == whole


@pytest.mark.long
def test_other_threads_are_said_to_change_the_bits_and_the_runs_own_are_kept(
    tmp_path: Path, place: Path, whole: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    out = broken(place, tmp_path / "run")
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    capsys.readouterr()
    assert resume(out, "--threads", 2) == 0
    told = capsys.readouterr().err
    assert (
        "started with 1 thread, resumed with 2 threads: the order of the images stays the same"
        in told
    )
    assert resume(copy) == 0
    assert "not bit-identical" not in capsys.readouterr().err
    assert marks(copy) == whole


def test_a_deterministic_run_goes_on_with_as_many_threads_to_the_same_bits(
    tmp_path: Path, place: Path, whole: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words = train(place, tmp_path / "run")
    at_threads = words.index("--threads")
    words[at_threads : at_threads + 2] = ["--deterministic"]
    with at("before step", 5, crash), pytest.raises(Crash):
        main(words)
    torch.set_num_threads(2)
    assert resume(tmp_path / "run") == 0
    assert torch.get_num_threads() == 1
    assert "not bit-identical" not in capsys.readouterr().err
    assert marks(tmp_path / "run") == whole


@pytest.mark.parametrize(
    "flags",
    [
        ("--lr", 0.5), ("--batch", 16), ("--set", "ema=0.5"), ("--workers", 0),
        ("--save-every", 1), ("--no-keep-memory",), ("--out", "elsewhere"), ("--replace",),
        ("--seeds", 3), ("--folds", 3), ("--compile", "off"), ("--deterministic",),
    ],
)  # fmt: skip
def test_a_flag_that_would_be_ignored_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[Any, ...]
) -> None:
    assert resume(tmp_path / "run", *flags) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    name = str(flags[0]).replace("--no-", "--")
    assert told[0].startswith(f"forebear: {name} with --resume")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("add", "51 training images then, 52 now"),
        ("remove", "51 training images then, 49 now"),
        ("edit", "as many as before, but other ones"),
        ("rename", "class 'grey' is gone, class 'gray' is new"),
        ("move", "the images of folder:"),
    ],
)
def test_images_that_have_changed_are_refused_and_the_change_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, message: str
) -> None:
    folder(tmp_path / "data")
    table(tmp_path / "tiny.toml")
    out = broken(tmp_path, tmp_path / "run")
    before = saved(out)
    data = tmp_path / "data"
    if change == "add":
        Image.fromarray(image(0, 777)).save(data / "across" / "new.png")
    elif change == "remove":
        (data / "across" / "3.png").unlink()
        (data / "across" / "4.png").unlink()
    elif change == "edit":
        Image.fromarray(image(0, 778)).save(data / "across" / "3.png")
    elif change == "rename":
        (data / "grey").rename(data / "gray")
    else:
        (data / "grey" / "3.png").rename(data / "down" / "33.png")
    assert resume(out) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "have changed since the run began" in told
    assert message in told
    assert saved(out) == before
