"""The parts of the TensorFlow reader, held to published values and to what TensorFlow wrote."""

from __future__ import annotations

import numpy as np
import pytest

from forebear.weights.readers.tensorflow.corruption import DamageError
from forebear.weights.readers.tensorflow.crc32c import crc32c, masked
from forebear.weights.readers.tensorflow.protobuf import varint, varints
from forebear.weights.readers.tensorflow.snappy import decompress
from forebear.weights.readers.tensorflow.tensor_records import FULL, slice_key
from forebear.weights.writers.tensorflow import protobuf


def test_the_checksum_is_crc32c() -> None:
    # RFC 3720, appendix B.4, and the catalogue's check value of CRC-32C.
    assert crc32c(np.zeros(32, np.uint8)) == 0x8A9136AA
    assert crc32c(np.arange(32, dtype=np.uint8)) == 0x46DD794E
    digits = np.frombuffer(b"123456789", np.uint8)
    assert crc32c(digits) == crc32c(digits[4:], crc32c(digits[:4])) == 0xE3069283
    assert masked(0) == 0xA282EAD8


@pytest.mark.parametrize(
    ("start", "length", "key"),
    [
        (63, 1, "bf81"),
        (64, 64, "c040c040"),
        (8191, 1, "dfff81"),
        (8192, 8192, "e02000e02000"),
        (1048575, 1, "efffff81"),
        (1048576, 1, "f010000081"),
    ],
)
def test_slices_have_the_keys_that_tensorflow_gave_them(start: int, length: int, key: str) -> None:
    wanted = bytes.fromhex(f"006b00010102{key}807f")
    assert slice_key("k", ((start, length), (0, FULL))) == wanted


def test_a_scalar_has_a_key_without_dimensions() -> None:
    assert slice_key("odd/scalar", ()) == b"\0odd/scalar\0\x01\0"


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
