"""The one string of a tensor is read with both of its checksums, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebear.weights.readers.tensorflow.corruption import DamageError
from forebear.weights.readers.tensorflow.string_tensor import read_string
from tests.weights.readers.object_making import string


@pytest.mark.parametrize("text", [b"", b"a", b"x" * 300])
def test_a_string_is_read_at_its_place(text: bytes, tmp_path: Path) -> None:
    content, checksum = string(text)
    (tmp_path / "data").write_bytes(b"before" + content + b"after")
    assert read_string(tmp_path / "data", 6, len(content), checksum) == text


def test_every_changed_byte_and_every_missing_one_is_noticed(tmp_path: Path) -> None:
    content, checksum = string(b"a text")
    path = tmp_path / "data"
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        for data in (bytes(changed), content[:place]):
            path.write_bytes(data)
            with pytest.raises(DamageError):
                read_string(path, 0, len(content), checksum)


def test_another_checksum_is_refused(tmp_path: Path) -> None:
    content, checksum = string(b"a text")
    (tmp_path / "data").write_bytes(content)
    with pytest.raises(DamageError, match="checksum of its values"):
        read_string(tmp_path / "data", 0, len(content), checksum ^ 1)


def test_several_strings_are_refused(tmp_path: Path) -> None:
    content, checksum = string(b"a text")
    (tmp_path / "data").write_bytes(content + b"more")
    with pytest.raises(DamageError, match="its string of 6 bytes is stored in 15 bytes"):
        read_string(tmp_path / "data", 0, len(content) + 4, checksum)
