from __future__ import annotations

import numpy as np
import pytest

from forebear.weights.readers.tensorflow.corruption import DamageError
from forebear.weights.readers.tensorflow.snappy import decompress


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ("00", b""),
        ("05 10 68656c6c6f", b"hello"),
        ("0c 04 6162 12 0200 05 04", b"ab" + b"ababa" + b"babab"),  # copies of 5, offsets 2 and 4
        ("64 00 61 fe 0100 8a 0100", b"a" * 100),  # a run: copies that reach into themselves
        ("3e f0 3d" + "78" * 62, b"x" * 62),  # a literal with its length in a byte
        ("08 0c 61626364 0f 04000000", b"abcdabcd"),  # an offset of four bytes
    ],
)
def test_snappy_is_unpacked(data: str, wanted: bytes) -> None:
    assert decompress(memoryview(bytes.fromhex(data))) == wanted


@pytest.mark.parametrize(
    "data",
    [
        "",
        "80",
        "05 10 6865",  # a cut literal
        "05 00 61",  # less than promised
        "01 04 6162",  # more than promised
        "05 fe 0100",  # a copy of what is not there
        "05 00 61 0e 0000",  # offset 0
        "05 00 61 0e 0200",  # before the beginning
        "05 00 61 0e 01",  # a cut offset
        "05 f8 61",  # a literal whose length is cut
        "ffffffff0f 00 61",  # four GB out of two bytes
        "ffffffffffffffff7f 00 61",
    ],
)
def test_damaged_snappy_is_damage(data: str) -> None:
    with pytest.raises(DamageError):
        decompress(memoryview(bytes.fromhex(data)))


def test_what_google_packed_is_unpacked() -> None:
    arrow = pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    for most in (1, 3, 40, 255):
        data = rng.integers(0, most, 200_000, dtype=np.uint8).tobytes() + b"end" * 5000
        packed = arrow.compress(data, codec="snappy", asbytes=True)
        assert decompress(memoryview(packed)) == data
