"""Empty and single classes, odd names, links in a circle, hidden files, names in two cases."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import making
from tests.faults.conftest import Figure
from tests.faults.zygote import Zygote

ESCAPE = "\x1b]0;owned\x07"


@pytest.fixture
def root(place: Path, tmp_path: Path) -> Path:
    return making.copied(place / "data", tmp_path / "data")


def renamed(name: str | bytes) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / "down").rename(root / os.fsdecode(name))

    return change


def one_class(root: Path) -> None:
    for name in ("grey", "across"):
        shutil.rmtree(root / name)


def loose(root: Path) -> None:
    for path in sorted(root.rglob("*.png")):
        path.rename(root / path.name)
    for name in making.CLASSES:
        (root / name).rmdir()


def two_parts(root: Path) -> None:
    inner = root.rename(root.with_name("inner"))
    for name in ("train", "val", "dev"):
        shutil.copytree(inner, root / name)


def hidden(root: Path) -> None:
    (root / ".cache").mkdir()
    (root / "down" / ".x.png").touch()


def by_case(root: Path) -> None:
    shutil.copytree(root / "grey", root / "Grey")
    for path in sorted((root / "Grey").iterdir())[40:]:
        path.unlink()


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "an empty class": (lambda root: (root / "empty").mkdir(), "empty: no images inside"),
    "a name that is not UTF-8": (renamed(b"caf\xe9"), "is not UTF-8"),
    "a name of spaces": (renamed("  "), "is empty"),
    "one class": (one_class, "only one class, down"),
    "images outside of classes": (loose, "256 images outside of class folders"),
    "parts of one name": (two_parts, "are both names of the val part"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_layout_that_cannot_be_used_is_refused_before_the_run(
    what: str, root: Path, place: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    change, said = REFUSED[what]
    change(root)
    words = making.train(place, tmp_path / "run", data=f"folder:{root}")
    line = zygote.start(*words, folder=tmp_path / "said").wait().refused(said)
    assert line.isprintable()
    assert not (tmp_path / "run").exists()
    figure.count("as specified", 1)


READ: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "other alphabets": (renamed("Füße 猫"), ["Füße 猫", "across", "grey"]),
    "a line break": (renamed("a\nb"), ["a\nb", "across", "grey"]),
    "an escape": (renamed(ESCAPE), [ESCAPE, "across", "grey"]),
    "255 bytes": (renamed("x" * 255), ["across", "grey", "x" * 255]),
    "a link in a circle": (
        lambda root: (root / "down" / "again").symlink_to(root),
        ["across", "down", "grey"],
    ),
    "hidden files": (hidden, ["across", "down", "grey"]),
    "names that differ by case": (by_case, ["Grey", "across", "down", "grey"]),
}


@pytest.mark.parametrize("what", READ)
@pytest.mark.long
def test_a_layout_that_can_be_used_is_read_in_the_order_of_bytes(
    what: str, root: Path, place: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    change, classes = READ[what]
    change(root)
    words = making.train(place, tmp_path / "run", "--epochs", 1, data=f"folder:{root}")
    done = zygote.start(*words, folder=tmp_path / "said").wait()
    done.succeeded()
    settings = making.contents(tmp_path / "run")["settings.json"].decode()
    order = [settings.index(repr_json(name)) for name in classes]
    assert order == sorted(order)
    image = next((root / "grey").glob("*.png"))
    words = ("evaluate", tmp_path / "run", "--data", f"folder:{root}")
    evaluated = zygote.start(*words, folder=tmp_path / "evaluated").wait()
    predicted = zygote.start("predict", tmp_path / "run", image, folder=tmp_path / "pr").wait()
    for one in (done, evaluated, predicted):
        assert one.code == 0
        assert all(line.isprintable() for line in (one.stdout + one.stderr).splitlines())
    figure.count("as specified", 1)


def repr_json(name: str) -> str:
    import json

    return json.dumps(name, ensure_ascii=False)
