"""Gone on with after a change: the world size, threads, device, torch, workers, recipe or flags."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults import making
from tests.faults.conftest import Figure, Whole
from tests.faults.worlds import Ranks
from tests.faults.zygote import Zygote

SLOW = pytest.mark.slow
CLOSE = "results will be close to, but not bit-identical with, an uninterrupted run"


@pytest.fixture(scope="module")
def broken(zygote: Zygote, place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed."""
    folder = tmp_path_factory.mktemp("broken")
    faults = {"at": {"step 33": "die"}}
    words = making.train(place, folder / "run")
    assert zygote.start(*words, folder=folder / "said", faults=faults).wait().code == -9
    return folder / "run"


def edit(out: Path, group: str, name: str, value: object) -> None:
    """Changes a value of settings.json."""
    path = out / "settings.json"
    settings = json.loads(path.read_text())
    assert settings[group][name] != value
    settings[group][name] = value
    path.write_text(json.dumps(settings, indent=2))


@pytest.mark.parametrize("workers", [0, *(pytest.param(n, marks=SLOW) for n in (1, 3))])
def test_other_workers_change_no_bit(
    workers: int, tmp_path: Path, zygote: Zygote, whole: Whole, figure: Figure, broken: Path
) -> None:
    out = making.copied(broken, tmp_path / "run")
    edit(out, "request", "workers", workers)
    done = zygote.start(
        *making.resume(out), folder=tmp_path / "said", faults={"undecoded": {}}
    ).wait()
    done.succeeded()
    same = making.marks(out) == whole.marks and CLOSE not in done.stderr
    figure.count("as specified", same)
    assert same


DEVICE_NAME = "forebear.tasks.train.resume.restore:device_name"
SAID: dict[str, tuple[tuple[object, ...], dict[str, Any], str]] = {
    "threads": (("--threads", 2), {}, "started with 1 thread, resumed with 2 threads"),
    "torch": ((), {"torch_is": {"version": "9.9.9"}}, "resumed with torch 9.9.9"),
    "device": (
        (),
        {"returns": {"of": DEVICE_NAME, "value": "a CPU"}},
        "resumed with a CPU",
    ),
}


@pytest.mark.parametrize("what", SAID)
@pytest.mark.long
def test_what_may_change_bits_is_said(
    what: str, tmp_path: Path, zygote: Zygote, figure: Figure, broken: Path
) -> None:
    out = making.copied(broken, tmp_path / "run")
    more, faults, told = SAID[what]
    done = zygote.start(*making.resume(out, *more), folder=tmp_path / "said", faults=faults).wait()
    done.succeeded()
    said = told in done.stderr and CLOSE in done.stderr
    figure.count("as specified", said)
    assert said, done.stderr
    assert making.metrics(out)[-1]["step"] == making.LAST


@pytest.mark.slow
def test_another_world_size_is_said(
    tmp_path: Path, zygote: Zygote, figure: Figure, broken: Path
) -> None:
    out = making.copied(broken, tmp_path / "run")
    done = [child.wait() for child in Ranks(zygote, tmp_path / "p", making.resume(out)).all]
    assert [one.code for one in done] == [0, 0], done
    said = "started with 1 process, resumed with 2 processes" in done[0].stderr
    figure.count("as specified", said and CLOSE in done[0].stderr)
    assert said
    assert making.metrics(out)[-1]["step"] == making.LAST


EDITS: dict[str, Callable[[Path], None]] = {
    "learning rate": lambda out: edit(out, "recipe", "lr", 0.5),
    "batch": lambda out: edit(out, "recipe", "batch", 16),
    "epochs": lambda out: edit(out, "recipe", "epochs", 9),
    "momentum": lambda out: edit(out, "recipe", "momentum", 0.5),
    "threads": lambda out: edit(out, "request", "threads", 2),
    "torch": lambda out: edit(out, "versions", "torch", "9.9.9"),
    "width": lambda out: edit(out, "table", "name", "other"),
    "mean": lambda out: edit(out, "preprocessing", "mean", [0.1, 0.2, 0.3]),
}


@pytest.mark.parametrize(
    "what", [pytest.param(one, marks=[] if one == "learning rate" else [SLOW]) for one in EDITS]
)
def test_an_edit_of_the_settings_is_refused_or_said(
    what: str, tmp_path: Path, zygote: Zygote, figure: Figure, broken: Path
) -> None:
    out = making.copied(broken, tmp_path / "run")
    EDITS[what](out)
    before = making.contents(out)
    done = zygote.start(*making.resume(out), folder=tmp_path / "said").wait()
    figure.count("as specified", done.code == 2 or CLOSE in done.stderr)
    if CLOSE not in done.stderr:
        done.failed("settings.json")
        assert making.contents(out) == before


FLAGS = (("--lr", 0.5), ("--batch", 16), ("--seed", 4), ("--set", "momentum=0.5"))


@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: flags[0])
def test_a_flag_that_would_change_the_recipe_is_refused(
    flags: tuple[object, ...], tmp_path: Path, zygote: Zygote, figure: Figure, broken: Path
) -> None:
    done = zygote.start(*making.resume(broken, *flags), folder=tmp_path / "said").wait()
    figure.count("as specified", done.code == 2)
    done.refused(f"{flags[0]} with --resume")


def test_a_device_that_is_not_there_is_refused(
    tmp_path: Path, zygote: Zygote, figure: Figure, broken: Path
) -> None:
    before = making.contents(broken)
    words = making.resume(broken, "--device", "cuda")
    done = zygote.start(*words, folder=tmp_path / "said").wait()
    figure.count("as specified", done.code == 2)
    done.refused("cuda")
    assert making.contents(broken) == before


def test_data_that_were_moved_change_no_bit(
    tmp_path: Path, place: Path, zygote: Zygote, whole: Whole, figure: Figure, broken: Path
) -> None:
    out = making.copied(broken, tmp_path / "run")
    making.copied(place / "data", tmp_path / "elsewhere")
    edit(out, "data", "spec", f"folder:{tmp_path / 'elsewhere'}")
    zygote.start(*making.resume(out), folder=tmp_path / "said").wait().succeeded()
    same = making.marks(out) == whole.marks
    figure.count("as specified", same)
    assert same
