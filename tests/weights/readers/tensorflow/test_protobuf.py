from __future__ import annotations

import numpy as np
import pytest

from forebear.weights.readers.tensorflow.corruption import DamageError
from forebear.weights.readers.tensorflow.protobuf import varint, varints
from forebear.weights.writers.tensorflow import protobuf

NUMBERS = [0, 1, 127, 128, 300, 2**32 - 1, 2**63, 2**64 - 1]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_varint_comes_back(number: int) -> None:
    assert varint(memoryview(protobuf.varint(number) + b"x"), 0)[0] == number


def test_packed_varints_come_back_across_pieces() -> None:
    numbers = NUMBERS * 60_000  # more than one piece
    packed = np.frombuffer(b"".join(map(protobuf.varint, numbers)), np.uint8)
    assert len(packed) > 1 << 20
    assert varints(packed, len(numbers)).tolist() == numbers
    assert varints(packed[:0], 0).tolist() == []


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 11, b"\xff" * 9 + b"\x7f"])
def test_a_varint_without_end_is_damage(data: bytes) -> None:
    with pytest.raises(DamageError, match="a varint does not end or exceeds 64 bits"):
        varint(memoryview(data), 0)


@pytest.mark.parametrize(
    ("data", "count"), [(b"\1\1", 3), (b"\x80", 0), (b"\1\x80", 1), (b"\x80" * 11 + b"\1", 1)]
)
def test_packed_varints_without_end_are_damage(data: bytes, count: int) -> None:
    with pytest.raises(DamageError):
        varints(np.frombuffer(data, np.uint8), count)
