"""What a fuzzer found, and inputs that reach deep into a parser, are read rightly or refused."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from forebear.errors import DataError
from tests import fuzzing
from tests.fuzz_seeds import seeds

pytest.importorskip("pyarrow")  # the seeds of parquet, and of Keras below
pytest.importorskip("h5py")
FINDS = Path(__file__).parent / "fuzz_finds"
FILES = sorted(FINDS.glob("*/*.bin"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_find_is_read_or_refused_in_one_line(path: Path, tmp_path: Path) -> None:
    with fuzzing.without_checksums():
        assert fuzzing.fault(path.parent.name, path.read_bytes(), tmp_path / "x") is None


@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_the_seeds_of_every_target_are_read(name: str, tmp_path: Path) -> None:
    for number, seed in enumerate(seeds()[name]):
        with fuzzing.without_checksums():
            assert fuzzing.fault(name, seed, tmp_path / str(number)) is None


def test_finds_are_few_and_small() -> None:
    assert len(FILES) <= 60
    assert max(path.stat().st_size for path in FILES) < 4096
    assert {path.parent.name for path in FILES} <= fuzzing.TARGETS.keys()


@pytest.mark.parametrize(
    ("fails", "found"),
    [
        (KeyError("x"), "KeyError in test_fuzz_finds.py"),
        (RecursionError(), "RecursionError in test_fuzz_finds.py"),
        (ValueError("not of forebear"), "raised elsewhere: ValueError"),
        (None, None),
    ],
)
def test_a_fault_is_told_by_its_place(
    fails: Exception | None, found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(data: bytes, folder: Path) -> None:
        if fails is not None:
            raise fails

    monkeypatch.setitem(fuzzing.TARGETS, "json_like", read)
    told = fuzzing.fault("json_like", b"", tmp_path / "x")
    assert told is None if found is None else str(told).startswith(found)


def test_two_lines_are_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(data: bytes, folder: Path) -> None:
        raise DataError("one\ntwo")

    monkeypatch.setattr(fuzzing, "_SOURCE", str(Path(__file__).parent))
    monkeypatch.setitem(fuzzing.TARGETS, "lines", read)
    told = fuzzing.fault("lines", b"", tmp_path / "x")
    assert str(told).startswith("not one line: DataError")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no /proc on this system")
def test_memory_and_time_are_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object) -> None:
        with mmap.mmap(-1, 600 * 2**20) as fresh:  # malloc could reuse what this process has freed
            for _page in range(600):
                fresh.write(b"x" * 2**20)

    monkeypatch.setitem(fuzzing.TARGETS, "large", fill)
    assert str(fuzzing.fault("large", b"", tmp_path / "x")).startswith("memory: ")
    monkeypatch.setattr(fuzzing, "SECONDS", -1.0)
    monkeypatch.setitem(fuzzing.TARGETS, "slow", lambda *_: None)
    assert str(fuzzing.fault("slow", b"", tmp_path / "x")).startswith("slow: ")
