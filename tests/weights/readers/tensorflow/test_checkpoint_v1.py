"""Hostile arrays of V1 checkpoints are refused in one line, and nothing else happens."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from forebear.errors import WeightsError
from forebear.weights.readers.tensorflow.open import open_tensorflow
from forebear.weights.readers.tensorflow.tensor_records import whole
from forebear.weights.writers.tensorflow.protobuf import message, number
from tests.weights.readers.tensorflow_making import (
    described,
    refusals,
    saved,
    table,
    v1_of,
)

WHOLE = whole((4,))
FOUR = message(5, np.zeros(4, np.float32).tobytes())
V1_ARRAYS: dict[str, Callable[[Path], Path]] = {
    "too few values": lambda path: v1_of(described((5,), [WHOLE]), {WHOLE: FOUR}, path),
    "too many values": lambda path: v1_of(described((3,), [WHOLE]), {WHOLE: FOUR}, path),
    "absurd shape": lambda path: v1_of(described((1 << 40, 1 << 20), [whole((1, 1))]), {}, path),
    "largest shape": lambda path: v1_of(described(((1 << 63) - 1,), [WHOLE]), {WHOLE: FOUR}, path),
    "absurd empty shape": lambda path: v1_of(
        described((0, 1 << 62, 1 << 62), [whole((1,) * 3)]), {}, path
    ),
    "negative shape": lambda path: v1_of(described(((1 << 64) - 4,), [WHOLE]), {WHOLE: FOUR}, path),
    "65 dimensions": lambda path: v1_of(described((1,) * 65, [whole((1,) * 65)]), {}, path),
    "slice of another shape": lambda path: v1_of(described((4, 4), [WHOLE]), {WHOLE: FOUR}, path),
    "slice out of shape": lambda path: v1_of(described((4,), [((1, 4),)]), {((1, 4),): FOUR}, path),
    "slice of negative length": lambda path: v1_of(
        described((4,), [((0, (1 << 64) - 2),)]), {WHOLE: FOUR}, path
    ),
    "slice at the end of numbers": lambda path: v1_of(
        described((4,), [(((1 << 63) - 1, (1 << 63) - 1),)]), {WHOLE: FOUR}, path
    ),
    "slice that is not there": lambda path: v1_of(described((4,), [WHOLE]), {}, path),
    "no slices": lambda path: v1_of(described((4,), []), {}, path),
    "slices with a hole": lambda path: v1_of(described((6,), [((0, 4),)]), {((0, 4),): FOUR}, path),
    "slices of an absurd whole": lambda path: v1_of(
        described((1 << 50,), [((0, 4),), ((8, 4),)]), {((0, 4),): FOUR, ((8, 4),): FOUR}, path
    ),
    "numbers that never end": lambda path: v1_of(
        described((4,), [WHOLE], kind=3), {WHOLE: message(7, b"\xff" * 100)}, path
    ),
    "a number too long": lambda path: v1_of(
        described((1,), [whole((1,))], kind=9),
        {whole((1,)): message(10, b"\xff" * 12 + b"\1")},
        path,
    ),
    "a number beyond its type": lambda path: v1_of(
        described((1,), [whole((1,))], kind=4), {whole((1,)): message(7, b"\xac\2")}, path
    ),
    "a truth of 2": lambda path: v1_of(
        described((1,), [whole((1,))], kind=10), {whole((1,)): message(11, b"\2")}, path
    ),
    "bits beyond a half": lambda path: v1_of(
        described((1,), [whole((1,))], kind=19), {whole((1,)): message(13, b"\xff\xff\7")}, path
    ),
    "floats as varints": lambda path: v1_of(
        described((1,), [whole((1,))]), {whole((1,)): number(5, 1 << 27)}, path
    ),
    "a field beyond its message": lambda path: v1_of(
        described((4,), [WHOLE]), {WHOLE: b"\x2a\x7f"}, path
    ),
    "a group": lambda path: v1_of(described((4,), [WHOLE]), {WHOLE: b"\x2b\x2c"}, path),
}


@pytest.mark.parametrize("what", V1_ARRAYS)
def test_a_hostile_array_of_v1_is_refused(tmp_path: Path, what: str) -> None:
    path = V1_ARRAYS[what](tmp_path / "x")
    tracemalloc.start()
    try:
        said = refusals(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert len(said) == 1


def test_an_array_listed_twice_is_refused(tmp_path: Path) -> None:
    twice = described((4,), [WHOLE])
    (tmp_path / "x").write_bytes(table({b"": message(1, twice, twice), b"b": saved(WHOLE, FOUR)}))
    with pytest.raises(WeightsError, match="x: it lists 'a' twice"):
        open_tensorflow(tmp_path / "x")
