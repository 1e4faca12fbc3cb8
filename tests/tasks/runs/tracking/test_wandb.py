from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forebear.tasks.runs.tracking.tracker import quiet
from forebear.tasks.runs.tracking.wandb import Wandb
from tests.tasks.runs.tracking.making import FINAL, FLAT, values

BLOCK = 2**15  # bytes


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")  # read when wandb is imported
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("MODE", "PROJECT", "DIR", "NAME", "RUN_ID"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    pytest.importorskip("wandb")


def records(path: Path) -> Iterator[Any]:
    """The records of an offline run: protocol buffers in a log of LevelDB's format."""
    from wandb.proto import wandb_internal_pb2 as proto

    data, at, whole = path.read_bytes(), 7, b""  # after the header of wandb
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield proto.Record.FromString(whole)
            whole = b""


def read(folder: Path) -> list[dict[str, Any]]:
    """What each offline run in a folder has: "id", "config", "points", "summary", "exit".

    The process that writes the files ends them a moment after `finish` returns.
    """
    until = time.monotonic() + 60
    while True:
        found = _read(folder)
        if found and all("exit" in one for one in found):
            return found
        assert time.monotonic() < until, found
        time.sleep(0.05)


def _read(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda p: p.stat().st_mtime):
        one: dict[str, Any] = {"points": [], "summary": {}, "path": path.parent}
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                one["id"], one["project"] = record.run.run_id, record.run.project
                one["config"] = {
                    item.key: json.loads(item.value_json) for item in record.run.config.update
                }
            elif kind == "history":
                items = {
                    item.key or item.nested_key[0]: json.loads(item.value_json)
                    for item in record.history.item
                }
                one["points"].append((items["_step"], items["loss/training"]))
            elif kind == "summary":
                one["summary"] |= {
                    item.key or item.nested_key[0]: json.loads(item.value_json)
                    for item in record.summary.update
                }
            elif kind == "exit":
                one["exit"] = record.exit.exit_code
        found.append(one)
    return found


def tracked(folder: Path, *steps: int, known: str = "", finish: bool = True) -> str:
    """The id of a run with points at some steps."""
    with quiet():
        run = Wandb(folder)
        found = run.start(FLAT, known)
        for step in steps:
            run.epoch(step, values(step))
        if finish:
            (folder / "index.html").write_text("page")
            run.finish(steps[-1], FINAL, [folder / "index.html"])
        run.close()
    return found


def test_wandb_has_points_settings_metrics_and_the_page_offline(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    found = tracked(tmp_path / "run", 10, 20)
    assert capfd.readouterr() == ("", "")
    (run,) = read(tmp_path / "run")
    assert (run["id"], run["project"], run["exit"]) == (found, "forebear", 0)
    assert run["points"] == [(10, 0.1), (20, 0.05)]
    assert FLAT.items() <= run["config"].items()
    assert FINAL.items() <= run["summary"].items()
    page = run["path"] / "files/index.html"
    assert page.read_text() == "page"
    assert page.stat().st_nlink == 1  # a copy, which later changes do not reach
    assert not page.is_symlink()
    assert {one.name for one in (tmp_path / "run").iterdir()} == {"index.html", "wandb"}


def test_a_run_that_breaks_off_continues_under_its_id(tmp_path: Path) -> None:
    first = tracked(tmp_path, 10, finish=False)
    assert tracked(tmp_path, 20, known=first) == first
    before, after = read(tmp_path)
    assert (before["id"], after["id"]) == (first, first)
    assert (before["exit"], after["exit"]) == (1, 0)
    assert (before["points"], after["points"]) == ([(10, 0.1)], [(20, 0.05)])


def test_a_run_of_the_calling_program_is_left_alone(tmp_path: Path) -> None:
    import wandb

    with quiet():
        own = wandb.init(mode="offline", dir=str(tmp_path), settings={"silent": True})
    try:
        (tmp_path / "run").mkdir()
        assert tracked(tmp_path / "run", 10) != own.id
        assert wandb.run is own
    finally:
        wandb.finish()


def test_the_users_mode_and_project_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "flowers")
    tracked(tmp_path, 10)
    (run,) = read(tmp_path)
    assert run["project"] == "flowers"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (tmp_path / "other").mkdir()
    tracked(tmp_path / "other", 10, finish=False)
    assert not list((tmp_path / "other").iterdir())
