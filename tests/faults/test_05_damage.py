"""The newest checkpoint, or all, empty, cut, longer, one bit flipped, garbage, of another run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import making
from tests.faults.conftest import Figure, Whole
from tests.faults.zygote import Zygote

HALF = 23  # the step before which the run is killed; it has checkpoints of steps 20 and 15


def miscount(data: bytes) -> bytes:
    """Another number of skipped steps in the record of the run."""
    return data.replace(rb"\"skipped\": 0", rb"\"skipped\": 1")


def flip(data: bytes) -> bytes:
    """One bit of the last array."""
    return data[:-9] + bytes([data[-9] ^ 4]) + data[-8:]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "a byte more": lambda data: data + b"\0",
    "a bit flipped": flip,
    "garbage": lambda data: bytes(range(256)) * (len(data) // 256),
    "a bit of the record flipped": miscount,
    "of another run": bytes,  # see `damage`
}


@pytest.fixture(scope="module")
def broken(
    zygote: Zygote, place: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A run that was killed, and one of another seed."""
    folder = tmp_path_factory.mktemp("broken")
    for name, more in (("run", ()), ("other", ("--seed", 4))):
        child = zygote.start(
            *making.train(place, folder / name, *more),
            folder=folder / f"said-{name}",
            faults={"at": {f"step {HALF}": "die"}},
        )
        assert child.wait().code == -9
    return folder / "run", folder / "other"


def damage(path: Path, how: str, other: Path) -> None:
    if how == "of another run":
        shutil.copyfile(other / "checkpoints" / path.name, path)
        return
    before = path.read_bytes()
    path.write_bytes(DAMAGE[how](before))
    assert path.read_bytes() != before


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.long(after=1)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    how: str, tmp_path: Path, zygote: Zygote, whole: Whole, figure: Figure,
    broken: tuple[Path, Path],
) -> None:  # fmt: skip
    out = making.copied(broken[0], tmp_path / "run")
    newest, before = making.checkpoints(out)
    damage(newest, how, broken[1])
    done = zygote.start(*making.resume(out), folder=tmp_path / "said").wait()
    done.succeeded()
    named = [line for line in done.lines if str(newest) in line]
    figure.count("detected", bool(named))
    assert named
    assert f"resuming after step {making.step_of(before)}" in done.stderr
    assert making.marks(out) == whole.marks


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=[] if how == "cut" else [pytest.mark.slow]) for how in DAMAGE]
)
def test_without_a_whole_checkpoint_nothing_is_trained(
    how: str, tmp_path: Path, zygote: Zygote, figure: Figure, broken: tuple[Path, Path]
) -> None:
    out = making.copied(broken[0], tmp_path / "run")
    for path in making.checkpoints(out):
        damage(path, how, broken[1])
    before = making.contents(out)
    done = zygote.start(*making.resume(out), folder=tmp_path / "said").wait()
    figure.count("detected", done.code == 2)
    done.failed("no checkpoint that can be gone on from", "--replace")
    assert making.contents(out) == before
