"""The data set changed between start and resume."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faults import making
from tests.faults.conftest import Figure
from tests.faults.zygote import Zygote


def some(data: Path, label: str) -> Path:
    """A training image of a class, in either layout."""
    return min((data / "train" if (data / "train").exists() else data).glob(f"{label}/*"))


def add(data: Path) -> None:
    path = some(data, "down")
    shutil.copy2(some(data, "grey"), path.with_name("new.bmp"))


def remove(data: Path) -> None:
    some(data, "down").unlink()


def edit(data: Path) -> None:
    """Other pixels; the size and the time of change stay."""
    path = some(data, "down")
    with Image.open(path) as image:
        pixels = 255 - np.asarray(image)
    before = path.stat()
    Image.fromarray(pixels).save(path)
    making.same_stat(path, path.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def swap(data: Path) -> None:
    """Two images of two classes; names, sizes and times stay."""
    first, second = some(data, "down"), some(data, "grey")
    one, other = first.read_bytes(), second.read_bytes()
    making.same_stat(first, other)
    making.same_stat(second, one)


def rename(data: Path) -> None:
    """The first class becomes the last, so that every label changes."""
    for folder in list(data.rglob("across")):
        folder.rename(folder.with_name("zigzag"))


def move(data: Path) -> None:
    path = some(data, "down")
    path.rename(some(data, "grey").with_name("moved.bmp"))


EDITS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "added": (add, ("images then", "now")),
    "removed": (remove, ("images then", "now")),
    "edited, same size and time": (edit, ()),
    "swapped, same size and time": (swap, ()),
    "class renamed": (rename, ("'across' is gone", "'zigzag' is new")),
    "moved to another class": (move, ()),
}


@pytest.fixture(scope="module", params=["classes", "train and val"])
def begun(
    request: pytest.FixtureRequest, zygote: Zygote, place: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:  # fmt: skip
    """Data as BMP, all of one size, in either layout, and a run on them that was killed."""
    folder = tmp_path_factory.mktemp("begun")
    data = making.as_folder(folder / "data", ".bmp")
    if request.param == "train and val":
        for label in making.CLASSES:
            for number, path in enumerate(sorted((data / label).iterdir())):
                part = data / ("val" if number % 7 == 0 else "train") / label
                part.mkdir(parents=True, exist_ok=True)
                path.rename(part / path.name)
            (data / label).rmdir()
    words = making.train(place, folder / "run", data=f"folder:{data}")
    child = zygote.start(*words, folder=folder / "said", faults={"at": {"step 23": "die"}})
    assert child.wait().code == -9
    return folder


@pytest.mark.parametrize("change", EDITS)
@pytest.mark.long(after=5)
def test_changed_images_are_refused_with_the_difference(
    change: str, tmp_path: Path, zygote: Zygote, figure: Figure, begun: Path
) -> None:
    out = making.copied(begun / "run", tmp_path / "run")
    kept = making.copied(begun / "data", tmp_path / "kept")
    before = making.contents(out)
    try:
        EDITS[change][0](begun / "data")
        done = zygote.start(*making.resume(out), folder=tmp_path / "said").wait()
    finally:
        shutil.rmtree(begun / "data")
        making.copied(kept, begun / "data")
    figure.count("refused", done.code == 2)
    done.refused("have changed since the run began", *EDITS[change][1], "--replace")
    assert making.contents(out) == before


def test_the_same_images_are_taken(tmp_path: Path, zygote: Zygote, begun: Path) -> None:
    out = making.copied(begun / "run", tmp_path / "run")
    zygote.start(*making.resume(out), folder=tmp_path / "said").wait().succeeded()


def test_an_array_file_of_the_same_size_and_time_is_refused(
    tmp_path: Path, place: Path, zygote: Zygote, figure: Figure
) -> None:
    path = making.as_npz(tmp_path / "data.npz")
    before = path.stat()
    words = making.train(place, tmp_path / "run", data=f"npz:{path}")
    child = zygote.start(*words, folder=tmp_path / "first", faults={"at": {"step 23": "die"}})
    assert child.wait().code == -9
    images, labels = making.pixels()
    labels[[0, 1]] = labels[[1, 0]]
    making.save_npz(path, images, labels)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    done = zygote.start(*making.resume(tmp_path / "run"), folder=tmp_path / "said").wait()
    figure.count("refused", done.code == 2)
    done.refused("have changed since the run began")
