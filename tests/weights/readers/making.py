"""What the tests of the readers share: real files, and ways to damage and to tempt."""

from __future__ import annotations

import gzip
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forebear import WeightsError
from forebear.weights.readers.base import Arrays
from forebear.weights.readers.detect import open_arrays

GOLDENS = Path(__file__).parent / "goldens" / "keras"
SHARED = Path(__file__).parents[3].parent / "shared"  # real files, which not every machine has
KERAS_FILES = sorted(path.name.removesuffix(".gz") for path in GOLDENS.glob("*.gz"))


def golden(name: str, folder: Path) -> Path:
    """A file that Keras wrote, unpacked into `folder`."""
    path = folder / name
    path.write_bytes(gzip.decompress((GOLDENS / f"{name}.gz").read_bytes()))
    return path


def expected(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file: those of X.expected.npz beside X.h5; not inputs and outputs."""
    with np.load(path.parent / f"{path.name.split('.')[0]}.expected.npz") as arrays:
        return {name: arrays[name] for name in arrays.files if not name.startswith("__")}


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    return path


def assert_same(arrays: Arrays, wanted: Mapping[str, NDArray[Any]]) -> None:
    """Names, shapes, types and every bit."""
    assert set(arrays) == set(wanted)
    for name, array in wanted.items():
        found = arrays[name]
        assert arrays.shape(name) == found.shape == array.shape, name
        assert arrays.dtype(name) == found.dtype == array.dtype, name
        assert found.tobytes() == array.tobytes(), name


def refusal(path: Path) -> str:
    """What the file is refused with, on opening or on reading, in one line that names it."""
    with pytest.raises(WeightsError) as caught, open_arrays(path) as arrays:
        dict(arrays)
    said = str(caught.value)
    assert said.startswith(f"{path}"), said
    assert said.isprintable(), said
    assert len(said) < 1000
    assert "Expected" in said
    return said


def damaged(data: bytes, seed: int) -> bytes:
    """Cut, flipped, overwritten at random or near the start, or with bytes lost."""
    rng = random.Random(seed)
    changed = bytearray(data)
    match seed % 5:
        case 0:
            return data[: rng.randrange(len(data))]
        case 1:
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 2:
            for _ in range(rng.randrange(1, 30)):
                changed[rng.randrange(len(data))] = rng.randrange(256)
        case 3:
            for _ in range(rng.randrange(1, 8)):
                changed[rng.randrange(min(4096, len(data)))] = rng.choice([0, 1, 127, 128, 255])
        case _:
            start = rng.randrange(len(data))
            del changed[start : start + rng.randrange(1, 64)]
    return bytes(changed)


class Tempting:
    """A pickle of it would make an unguarded reader leave a file behind."""

    def __init__(self, canary: Path, call: str) -> None:
        self.canary, self.call = canary, call

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        import os

        if self.call == "system":
            return os.system, (f"touch {self.canary}",)
        program = f"open({str(self.canary)!r}, 'w').close()"
        return (exec if self.call == "exec" else eval), (program,)
