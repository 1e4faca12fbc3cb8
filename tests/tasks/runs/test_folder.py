"""A run's folder: what may be replaced, what it keeps, and who may work in it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from forebear.errors import RunError
from forebear.tasks.runs.folder import RunFolder
from forebear.tasks.runs.layout import LOCK, METRICS, SETTINGS, WEIGHTS
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.runs.read import load_run
from tests.tasks.making import TINY

EPOCH = Epoch(
    epoch=1,
    step=23,
    lr=0.1,
    loss=2.0,
    accuracy=0.25,
    val_loss=1.5,
    val_accuracy=0.5,
    images_per_second=100.0,
    seconds=2.5,
    skipped=0,
    memory=64.0,
    losses=(2.5, 1.5),
    lrs=(0.1, 0.05),
)


def begun(path: Path, *, replacing: bool = False) -> RunFolder:
    """A folder with a run in it whose process has ended."""
    folder = RunFolder(path, replace=replacing)
    folder.begin({"network": "x"})
    folder.close()
    return folder


def test_settings_and_epochs_come_back_as_they_were(tmp_path: Path) -> None:
    folder = begun(tmp_path / "a/b/run")
    second = replace(EPOCH, epoch=2, val_accuracy=float("nan"))
    folder.epoch(EPOCH)
    folder.epoch(second)
    settings, (one, two) = RunFolder(folder.path, replace=True).read()
    assert settings == {"network": "x", "id": settings["id"]}
    assert len(settings["id"]) == 32
    assert one == EPOCH
    assert repr(two) == repr(second)  # nan is not equal to itself


def test_a_line_that_a_kill_cut_is_left_out(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    folder.epoch(EPOCH)
    with (folder.path / METRICS).open("a") as file:
        file.write('{"epoch": 2, "st')
    assert folder.read()[1] == [EPOCH]


def test_kept_epochs_take_the_place_of_all_others(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    for number in (1, 2, 3):
        folder.epoch(replace(EPOCH, epoch=number))
    (folder.checkpoints / ".last.1.tmp").touch()
    folder.keep([EPOCH])
    assert folder.read()[1] == [EPOCH]
    assert list(folder.checkpoints.iterdir()) == []


def test_a_line_without_room_is_written_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = begun(tmp_path / "run")
    folder.epoch(EPOCH)
    whole = (folder.path / METRICS).read_bytes()

    class Full:
        """A file that takes the first three bytes."""

        def __init__(self, handle: int) -> None:
            self.file = open(handle, "ab", buffering=0)  # noqa: SIM115

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, data: bytes) -> int:
            return self.file.write(data[:3]) or 0

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", lambda handle, *_, **__: Full(handle))
        with pytest.raises(OSError, match="No space left"):
            folder.epoch(replace(EPOCH, epoch=2))
    assert (folder.path / METRICS).read_bytes() == whole
    folder.epoch(replace(EPOCH, epoch=3))
    assert [epoch.epoch for epoch in folder.read()[1]] == [1, 2, 3]


def test_weights_finish_a_run_and_load_as_a_network(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    with pytest.raises(RunError, match=f"{WEIGHTS} is missing"):
        load_run(folder.path)
    folder.weights(TINY)
    assert not folder.checkpoints.exists()
    assert load_run(folder.path).table == TINY.table
    assert load_run(folder.path / WEIGHTS).table == TINY.table
    with pytest.raises(RunError, match=f"^{folder.path}: .*finished"):
        folder.read()


def test_what_is_no_run_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"^{tmp_path / 'none'}: "):
        load_run(tmp_path / "none")
    with pytest.raises(RunError, match=f"^{tmp_path}: .*{WEIGHTS} is missing"):
        load_run(tmp_path)
    with pytest.raises(RunError, match=f"^{tmp_path}: .*{SETTINGS} is missing"):
        RunFolder(tmp_path).read()


def test_a_run_is_replaced_only_when_asked_and_other_files_never(tmp_path: Path) -> None:
    path = begun(tmp_path / "run").path
    (path / "more").mkdir()
    (path / "more/file").touch()
    with pytest.raises(RunError, match=f"^{path}: .*--replace"):
        RunFolder(path)
    assert (path / "more/file").exists()
    begun(path, replacing=True)
    assert sorted(entry.name for entry in path.iterdir()) == ["checkpoints", SETTINGS]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").touch()
    for asked in (False, True):
        with pytest.raises(RunError, match=f"^{tmp_path / 'mine'}: .*Pass another --out"):
            RunFolder(tmp_path / "mine", replace=asked)
    with pytest.raises(RunError, match=r"thesis\.txt"):
        RunFolder(tmp_path / "mine/thesis.txt")
    with pytest.raises(RunError, match=r"thesis\.txt"):
        RunFolder(tmp_path / "mine/thesis.txt/run")


def test_an_empty_folder_and_a_killed_beginning_are_free(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    (tmp_path / f".{SETTINGS}.7.tmp.json").touch()
    folder = RunFolder(tmp_path)
    folder.begin({})
    folder.close()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoints", SETTINGS]


HOLD = """
import sys
from pathlib import Path
from forebear.tasks.runs.folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
folder.begin({})
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.long
def test_one_process_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        try:
            with pytest.raises(RunError, match=f"^{path}: process {other.pid} "):
                RunFolder(path, replace=True)
        finally:
            other.kill()
    begun(path, replacing=True)  # what a killed process held is free
