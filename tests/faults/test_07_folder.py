"""An output folder that is read-only, a file, below a file, new, or in use by other runs."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults import making
from tests.faults.conftest import Figure, Whole
from tests.faults.harness import START, Outcome, forebear, start
from tests.faults.zygote import Zygote

SOONEST = 3.0  # seconds to the refusal


def refused(done: Outcome, figure: Figure, *words: str, after: float = 0.0) -> None:
    """Asserts that a run was refused in time, by one line."""
    done.refused(*words)
    figure.most("s to the refusal", done.seconds - after)
    assert done.seconds < SOONEST + after


def test_a_file_is_no_folder(tmp_path: Path, place: Path, zygote: Zygote, figure: Figure) -> None:
    (tmp_path / "file").write_text("precious")
    for number, (out, why) in enumerate(
        ((tmp_path / "file", "is a file"), (tmp_path / "file" / "run", "cannot be made"))
    ):
        words = making.train(place, out)
        done = zygote.start(*words, folder=tmp_path / f"said-{number}").wait()
        refused(done, figure, str(out), why, "Pass another --out")
    assert (tmp_path / "file").read_text() == "precious"


def test_other_files_are_not_touched(
    tmp_path: Path, place: Path, zygote: Zygote, figure: Figure
) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "thesis.tex").write_text("years")
    for number, more in enumerate(((), ("--replace",))):
        words = making.train(place, out, *more)
        done = zygote.start(*words, folder=tmp_path / f"said-{number}").wait()
        refused(done, figure, "holds files already")
    assert making.contents(out) == {"thesis.tex": b"years"}


@pytest.mark.slow
def test_missing_parents_are_made(
    tmp_path: Path, place: Path, zygote: Zygote, whole: Whole
) -> None:
    out = tmp_path / "a" / "b" / "run"
    zygote.start(*making.train(place, out), folder=tmp_path / "said").wait().succeeded()
    assert making.marks(out) == whole.marks


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that everybody may read, but that nobody but root may write to."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        yield Path(folder)
        Path(folder).chmod(0o755)


def test_a_folder_without_the_right_to_write_is_refused(
    tmp_path: Path, place: Path, zygote: Zygote, figure: Figure, closed: Path
) -> None:
    for number, out in enumerate((closed, closed / "run", closed / "a" / "run")):
        done = zygote.start(
            *making.train(place, out), folder=tmp_path / f"said-{number}", faults={"as_nobody": {}}
        ).wait()
        refused(done, figure, f"{out}: cannot be made, {closed} is read-only")
    assert list(closed.iterdir()) == []


@contextmanager
def mounted_read_only(folder: Path) -> Iterator[bool]:
    """A file system that is read-only; yields whether this process may mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "ro", "none", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.slow
def test_a_read_only_file_system_is_refused(
    tmp_path: Path, place: Path, zygote: Zygote, figure: Figure
) -> None:
    folder = tmp_path / "disk"
    with mounted_read_only(folder) as there:
        out = folder / "run" if there else Path("/proc/forebear")  # where nobody makes folders
        done = zygote.start(*making.train(place, out), folder=tmp_path / "said").wait()
        done.failed(f"{out}: cannot be made")
        figure.most("s to the refusal", done.seconds)
        assert done.seconds < SOONEST


@pytest.mark.parametrize(
    "real", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["forked", "real"]
)
@pytest.mark.long
def test_a_second_run_is_refused_with_the_number_of_the_first(
    real: bool, tmp_path: Path, place: Path, zygote: Zygote, figure: Figure, whole: Whole
) -> None:
    out = tmp_path / "run"
    words = making.train(place, out)
    owner = zygote.start(*words, folder=tmp_path / "first", faults={"at": {"step 7": "pause"}})
    owner.until_traced("step 7")
    before = making.contents(out)
    for number, other in enumerate(
        (words, making.train(place, out, "--replace"), making.resume(out))
    ):
        folder = tmp_path / f"said-{number}"
        if real:
            done = forebear(*other, folder=folder)
        else:
            done = zygote.start(*other, folder=folder).wait()
        told = f"{out}: process {owner.number} is training here"
        refused(done, figure, told, after=START if real else 0)
    assert making.contents(out) == before
    (tmp_path / "first" / "go").touch()
    owner.wait().succeeded()
    assert making.marks(out) == whole.marks


@pytest.mark.slow
@pytest.mark.parametrize("real", [False, True], ids=["forked", "real"])
@pytest.mark.parametrize("again", [False, True], ids=["new", "resumed"])
def test_of_three_runs_at_once_in_one_folder_one_trains(
    again: bool, real: bool, tmp_path: Path, place: Path, zygote: Zygote, figure: Figure,
    whole: Whole,
) -> None:  # fmt: skip
    out = tmp_path / "run"
    words = making.train(place, out)
    if again:
        faults = {"at": {"step 33": "die"}}
        zygote.start(*words, folder=tmp_path / "first", faults=faults).wait()
        words = making.resume(out)
    folders = [tmp_path / str(number) for number in range(3)]
    if real:
        children = [start(*words, folder=folder) for folder in folders]
    else:
        children = [zygote.start(*words, folder=folder) for folder in folders]
    done = [child.wait() for child in children]
    winners = [n for n, one in enumerate(done) if one.code == 0]
    figure.count("times one of three trained", len(winners) == 1)
    assert len(winners) == 1, done
    numbers = [child.number for child in children]  # each may hold the lock for a moment
    for one in done:
        if one.code != 0:
            told = one.failed(str(out))
            # A run that comes when the other has ended finds its files.
            assert (
                any(f"process {number} is training here" in told for number in numbers)
                or "is finished" in told
                or ("holds files already" in told)
            ), told
    assert making.marks(out) == whole.marks
