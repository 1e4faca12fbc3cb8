from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from forebear.engines import graph_cache
from forebear.engines.graph_cache import (
    CHOICES,
    FP32,
    cache_of,
    kept_graph,
    new_folder,
    read_choices,
    weights_file,
    write_choice,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_another_file_has_another_folder(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"abc")
    first = cache_of(file, None, None)
    assert first == cache_of(file, None, None)
    assert first != cache_of(file, "slim/resnet_v1_50", None)
    assert first != cache_of(file, None, "ema")
    state = file.stat()
    time.sleep(0.02)
    file.write_bytes(b"abd")  # of the same size, and with the times that it had
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert file.stat().st_mtime_ns == state.st_mtime_ns
    assert first != cache_of(file, None, None)


def test_the_file_of_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.safetensors").write_bytes(b"abc")
    assert weights_file(run) is None  # a folder of another library
    assert cache_of(run, None, None) is None
    (run / "settings.json").write_text("{}")
    assert weights_file(run) == run / "model.safetensors"
    assert weights_file(tmp_path / "none") is None
    assert cache_of(tmp_path / "none", None, None) is None


def test_a_graph_that_is_a_link_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"graph")
    (tmp_path / FP32).symlink_to(tmp_path / "other")
    assert kept_graph(tmp_path, FP32) is None
    (tmp_path / FP32).unlink()
    assert kept_graph(tmp_path, FP32) is None
    (tmp_path / FP32).write_bytes(b"graph")
    assert kept_graph(tmp_path, FP32) == tmp_path / FP32
    (tmp_path / FP32).chmod(0o666)
    assert kept_graph(tmp_path, FP32) is None


def test_the_oldest_graphs_are_deleted(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_cache, "GRAPHS", 3)
    for number in range(5):
        folder = cache / "engines" / f"k{number}"
        new_folder(folder)
        (folder / FP32).write_bytes(b"x" * 10)
        os.utime(folder / FP32, (1000 + number, 1000 + number))
    assert sorted(one.name for one in (cache / "engines").iterdir()) == ["k2", "k3", "k4"]
    monkeypatch.setattr(graph_cache, "GRAPHS_BYTES", 15)
    new_folder(cache / "engines" / "k5")
    assert sorted(one.name for one in (cache / "engines").iterdir()) == ["k4", "k5"]
    assert (cache / "engines" / "k5").stat().st_mode & 0o077 == 0


def test_choices_are_added(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "engines" / "k"
    assert read_choices(folder) == {}
    write_choice(folder, "a", {"engine": "torch"})
    write_choice(folder, "b", {"engine": "openvino"})
    assert read_choices(folder) == {"a": {"engine": "torch"}, "b": {"engine": "openvino"}}
    (folder / CHOICES).write_text("[" * 100)
    assert read_choices(folder) == {}


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    write_choice(tmp_path / "home" / "engines" / "k", "a", {})
