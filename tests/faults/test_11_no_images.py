"""Among the images: an empty file, words, a web page, a cut header, a folder called x.jpg."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.faults import making
from tests.faults.conftest import Figure
from tests.faults.zygote import Zygote

BAD = {
    "empty.jpg": b"",
    "words.jpg": b"these are words",
    "page.jpg": b"<!DOCTYPE html><html>404</html>",
    "cut.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
}


@pytest.fixture
def data(place: Path, tmp_path: Path) -> Path:
    """50 images of each of two classes, four files that are none, and a folder called x.jpg."""
    root = tmp_path / "data"
    for kind in ("across", "down"):
        (root / kind).mkdir(parents=True)
        for path in sorted((place / "data" / kind).glob("*.png"))[:50]:
            shutil.copy(path, root / kind)
    for name, content in BAD.items():
        (root / "down" / name).write_bytes(content)
    (root / "down" / "x.jpg").mkdir()
    return root


def test_check_names_each_of_them(
    data: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    done = zygote.start("check", f"folder:{data}", folder=tmp_path / "said").wait()
    assert done.code == 1
    named = sum(f"down/{name}: " in done.stdout for name in BAD)
    figure.count("files named", named, len(BAD))
    assert named == len(BAD)
    assert "4 of 104 images cannot be used" in done.stdout


def test_a_run_ends_before_its_first_step(
    data: Path, place: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    words = making.train(place, tmp_path / "run", data=f"folder:{data}")
    zygote.start(*words, folder=tmp_path / "said").wait().failed("down/", "xpected")
    assert not (tmp_path / "run").exists()
    figure.count("as specified", 1)


def test_a_run_that_may_skip_them_skips_exactly_these(
    data: Path, place: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    words = making.train(place, tmp_path / "run", "--bad", "skip", data=f"folder:{data}")
    done = zygote.start(*words, folder=tmp_path / "said").wait()
    done.succeeded()
    left_out = set(re.findall(r"left out: \S*/down/(\S+):", done.stderr))
    assert left_out == set(BAD)
    figure.count("skipped", len(left_out), len(BAD))
    words = ("evaluate", tmp_path / "run", "--data", f"folder:{data}", "--part", "all")
    again = zygote.start(*words, "--bad", "skip", folder=tmp_path / "again").wait()
    again.succeeded()
    assert again.stderr.count("left out: ") == len(BAD)
    assert "images    100" in again.stdout


def test_predict_answers_the_others(
    data: Path, trained: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    done = zygote.start("predict", trained, data / "down", folder=tmp_path / "said").wait()
    assert done.code == 2
    assert len(done.stdout.splitlines()) == 50
    assert done.lines[-1] == "forebear: 4 of 54 images could not be read"
    figure.count("as specified", 1)
