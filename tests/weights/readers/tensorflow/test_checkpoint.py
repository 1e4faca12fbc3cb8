"""What both formats of checkpoints refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forebear.errors import WeightsError
from forebear.weights.readers.tensorflow.open import open_tensorflow
from forebear.weights.writers.tensorflow.protobuf import message, number
from tests.weights.readers.tensorflow_making import (
    SUM,
    V1,
    V2,
    V2_DATA,
    copied,
    entry,
    refusals,
    shape,
    v1,
    v1_of,
    v2_of,
)


@pytest.mark.parametrize("name", [b"a\0b", b"\xff\xfe", b"a" * 5000, b"\xed\xa0\x80"])
def test_names_that_are_none_are_refused(tmp_path: Path, name: bytes) -> None:
    v2_of({name: entry((4,), 16, SUM)}, tmp_path / "x", bytes(16))
    assert len(refusals(tmp_path / "x")) == 1
    v1_of(message(1, message(1, name), message(2, shape((4,))), number(3, 1)), {}, tmp_path / "y")
    assert len(refusals(tmp_path / "y")) == 1


def test_a_file_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copied(V1, tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(WeightsError, match=r"cannot be read \(Permission denied\)\. Exp.* Check"):
        open_tensorflow(path)


def test_a_file_that_shrinks_while_it_is_open_is_refused(tmp_path: Path) -> None:
    path = copied(V2, tmp_path)
    with open_tensorflow(path) as arrays:
        (tmp_path / V2_DATA).write_bytes(b"")
        with pytest.raises(WeightsError, match=r"odd/int64: the file ends within its values"):
            arrays["odd/int64"]
    path = tmp_path / "x"
    path.write_bytes(v1({name: np.zeros(100_000, np.float32) for name in "ab"}))
    with open_tensorflow(path) as found:
        path.write_bytes(b"")
        with pytest.raises(WeightsError, match=r"x: b: the file was truncated while it was read"):
            found["b"]


def test_memory_that_is_not_there_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    with open_tensorflow(copied(V2, tmp_path)) as arrays:
        monkeypatch.setattr(np, "empty", refuse)
        with pytest.raises(WeightsError, match="odd/int64: does not fit into memory"):
            arrays["odd/int64"]
