"""msgpack as plain values. The encodings are those of the specification."""

from __future__ import annotations

import math
from typing import Any

import pytest

from forebear.limits import MSGPACK_VALUES, NESTING
from forebear.weights.readers.flax.msgpack import Extension, unpack
from forebear.weights.readers.tensorflow.corruption import DamageError
from tests.weights.flax_making import packed


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"\x00", 0),
        (b"\x7f", 127),
        (b"\xff", -1),
        (b"\xe0", -32),
        (b"\xc0", None),
        (b"\xc2", False),
        (b"\xc3", True),
        (b"\xcc\xff", 255),
        (b"\xcd\x01\x00", 256),
        (b"\xce\x00\x01\x00\x00", 65_536),
        (b"\xcf" + b"\xff" * 8, 2**64 - 1),
        (b"\xd0\x80", -128),
        (b"\xd1\x80\x00", -32_768),
        (b"\xd2\xff\xff\xff\xfe", -2),
        (b"\xd3" + b"\xff" * 8, -1),
        (b"\xca\x3f\x80\x00\x00", 1.0),
        (b"\xcb\x40\x09\x21\xfb\x54\x44\x2d\x18", math.pi),
        (b"\xa2\xc3\xbc", "ü"),
        (b"\xd9\x01a", "a"),
        (b"\xda\x00\x01a", "a"),
        (b"\xdb\x00\x00\x00\x01a", "a"),
        (b"\x92\x01\xa1b", [1, "b"]),
        (b"\xdc\x00\x01\x05", [5]),
        (b"\xdd\x00\x00\x00\x01\x05", [5]),
        (b"\x81\xa1a\x01", {"a": 1}),
        (b"\xde\x00\x01\xa1a\x01", {"a": 1}),
        (b"\xdf\x00\x00\x00\x01\xa1a\x01", {"a": 1}),
        (b"\xc4\x02ab", b"ab"),
        (b"\xc5\x00\x02ab", b"ab"),
        (b"\xc6\x00\x00\x00\x02ab", b"ab"),
    ],
)
def test_every_kind_of_value(data: bytes, value: Any) -> None:
    found = unpack(memoryview(data))
    assert type(found) is (memoryview if isinstance(value, bytes) else type(value))
    assert found == value


@pytest.mark.parametrize(
    ("data", "kind", "content"),
    [
        (b"\xd4\x01a", 1, b"a"),
        (b"\xd5\xffab", -1, b"ab"),
        (b"\xd6\x02abcd", 2, b"abcd"),
        (b"\xd7\x03" + b"a" * 8, 3, b"a" * 8),
        (b"\xd8\x04" + b"a" * 16, 4, b"a" * 16),
        (b"\xc7\x03\x01abc", 1, b"abc"),
        (b"\xc8\x00\x03\x01abc", 1, b"abc"),
        (b"\xc9\x00\x00\x00\x03\x01abc", 1, b"abc"),
    ],
)
def test_every_kind_of_extension(data: bytes, kind: int, content: bytes) -> None:
    found = unpack(memoryview(data))
    assert isinstance(found, Extension)
    assert (found.kind, bytes(found.data)) == (kind, content)


def test_a_long_string_is_not_decoded() -> None:
    assert isinstance(unpack(memoryview(packed("a" * 1_000))), str)
    assert isinstance(unpack(memoryview(packed("a" * 1_001))), memoryview)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "a value of 1 bytes extends beyond the end"),
        (b"\xc1", "byte 0xc1, which msgpack does not use"),
        (b"\x01\x02", "1 bytes after its value"),
        (b"\xa2a", "a value of 2 bytes extends"),
        (b"\xdd\xff\xff\xff\xff\x01", "4,294,967,295 values extend beyond the end"),
        (b"\xdf\xff\xff\xff\xff\x01", "8,589,934,590 values extend beyond the end"),
        (b"\xc6\xff\xff\xff\xffa", "a value of 4,294,967,295 bytes extends"),
        (b"\xc9\xff\xff\xff\xff\x01a", "a value of 4,294,967,295 bytes extends"),
        (b"\x81\x01\x01", "a key is a int, not a string"),
        (b"\x82\xa1a\x01\xa1a\x02", "two values have the key 'a'"),
        (b"\x91" * (NESTING + 1) + b"\x01", "nested more than 64 levels"),
        (b"\x91" * 100_000 + b"\x01", "nested more than 64 levels"),
    ],
)
def test_damage_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(DamageError, match=why):
        unpack(memoryview(data))


def test_values_are_counted() -> None:
    assert unpack(memoryview(b"\x92\x01\x02"), 3) == [1, 2]
    with pytest.raises(DamageError, match="more than 2 values"):
        unpack(memoryview(b"\x92\x01\x02"), 2)
    most = b"\xdd" + MSGPACK_VALUES.to_bytes(4, "big") + b"\x01" * MSGPACK_VALUES
    with pytest.raises(DamageError, match="more than 500,000 values"):
        unpack(memoryview(most))
