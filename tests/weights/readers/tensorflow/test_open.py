"""TensorFlow's checkpoints are read as TensorFlow reads them, from its own files."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from forebear.errors import WeightsError
from forebear.weights.readers.base import Array
from forebear.weights.readers.tensorflow.open import is_tensorflow, open_tensorflow
from forebear.weights.readers.tensorflow.tensor_records import FULL, Slice, whole
from forebear.weights.writers.tensorflow.protobuf import fixed32, message, number
from tests.weights.readers.tensorflow_making import (
    GOLDENS,
    copied,
    crc,
    described,
    read_all,
    shape,
    shared,
    v1,
    v1_of,
    v2_of,
)

SLIM_TINY_V2 = "5de0a6ae6ddbd8880169acf6a4e45891d54066f435664f18ff7e8945365aa45b"


def expected(file: Path, *, bfloat16: bool) -> dict[str, Array]:
    with np.load(file) as stored:
        arrays = dict(stored)
    if "__names__" in arrays:
        return dict(
            zip(arrays["__names__"].tolist(), map(np.asarray, arrays["__values__"]), strict=True)
        )
    return {
        name: array
        for name, array in arrays.items()
        if not name.startswith("__") and (bfloat16 or "bfloat16" not in name)
    }


def assert_same(found: dict[str, Array], wanted: dict[str, Array]) -> None:
    assert list(found) == sorted(wanted)
    for name, array in found.items():
        assert (array.dtype, array.shape) == (wanted[name].dtype, wanted[name].shape), name
        assert array.tobytes() == wanted[name].tobytes(), name
        assert array.flags.writeable, name
        assert array.flags.c_contiguous, name
        assert array.flags.aligned, name


@pytest.mark.parametrize("net", ["slim_tiny_v1", "slim_tiny_v2", "odd", "many"])
@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_every_golden_is_read_bit_for_bit(net: str, kind: str) -> None:
    wanted = expected(shared(f"{net}.expected.npz"), bfloat16=kind == "v2")
    assert_same(read_all(shared(f"{net}.format_{kind}.ckpt")), wanted)


def test_three_data_files_are_read_bit_for_bit() -> None:
    wanted = expected(shared("slim_tiny_v2.expected.npz"), bfloat16=True)
    assert_same(read_all(shared("slim_tiny_v2.format_v2_3shards.ckpt")), wanted)


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_slices_types_scalars_and_empty_arrays_are_read_bit_for_bit(kind: str) -> None:
    wanted = expected(GOLDENS / "odd.expected.npz", bfloat16=kind == "v2")
    assert_same(read_all(GOLDENS / f"odd.format_{kind}.ckpt"), wanted)


@pytest.mark.parametrize("file", ["format_v1.ckpt", "format_v2_3shards.ckpt"])
def test_a_slim_network_is_the_same_in_one_file_and_in_three(file: str) -> None:
    digest = hashlib.sha256()
    for name, array in read_all(GOLDENS / f"slim_tiny_v2.{file}").items():
        digest.update(name.encode() + str((array.dtype.str, array.shape)).encode())
        digest.update(array.tobytes())
    assert digest.hexdigest() == SLIM_TINY_V2


def test_objects_have_their_full_names_and_leave_out_their_graph() -> None:
    arrays = read_all(GOLDENS / "objects")
    assert {name: array.shape for name, array in arrays.items()} == {
        "sequential/dense/kernel": (4, 3),
        "sequential/dense/bias": (3,),
        "save_counter": (),
    }
    assert arrays["save_counter"] == 1


@pytest.mark.parametrize(
    "name",
    [
        "odd.format_v1.ckpt",
        "odd.format_v2.ckpt",
        "odd.format_v2.ckpt.index",
        "odd.format_v2.ckpt.data-00000-of-00001",
        "slim_tiny_v2.format_v2_3shards.ckpt.data-00002-of-00003",
    ],
)
def test_every_way_to_name_a_checkpoint_leads_to_it(name: str) -> None:
    assert is_tensorflow(GOLDENS / name)
    with open_tensorflow(GOLDENS / name) as arrays:
        assert arrays.path == GOLDENS / name
        assert arrays.format == f"TensorFlow checkpoint {'V1' if '_v1' in name else 'V2'}"
        assert len(arrays) > 10


def test_a_link_leads_to_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(GOLDENS / "odd.format_v1.ckpt")
    assert len(read_all(tmp_path / "link")) == 11


def test_the_format_is_told_by_content(tmp_path: Path) -> None:
    (tmp_path / "a.index").write_bytes((GOLDENS / "odd.format_v1.ckpt").read_bytes())
    assert len(read_all(tmp_path / "a.index")) == 11
    (tmp_path / "a.ckpt").write_bytes(b"\0" * 100)
    assert not is_tensorflow(tmp_path / "a.ckpt")
    assert not is_tensorflow(tmp_path / "empty")
    assert not is_tensorflow(tmp_path)


def test_an_index_under_another_name_is_refused_with_its_own(tmp_path: Path) -> None:
    (tmp_path / "renamed").write_bytes((GOLDENS / "odd.format_v2.ckpt.index").read_bytes())
    with pytest.raises(
        WeightsError, match=r"renamed: it is the index of a V2 .* Rename the files\."
    ):
        open_tensorflow(tmp_path / "renamed")


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"x\.ckpt: there is no file x\.ckpt or x\.ckpt\.index\. Exp"
    ):
        open_tensorflow(tmp_path / "x.ckpt")
    (tmp_path / "x.data-00000-of-00001").write_bytes(b"data")
    with pytest.raises(
        WeightsError, match=r"x\.data-00000-of-00001: there is no file x\.index\. Expected"
    ):
        open_tensorflow(tmp_path / "x.data-00000-of-00001")


def test_shapes_and_types_are_known_before_anything_is_read() -> None:
    with open_tensorflow(GOLDENS / "odd.format_v2.ckpt") as arrays:
        assert arrays.shape("odd/weights") == (10, 6)
        assert arrays.shape("odd/scalar") == ()
        assert arrays.dtype("odd/bfloat16") == np.float32
        assert arrays.dtype("odd/float16") == np.float16
        with pytest.raises(KeyError):
            arrays["odd"]


def test_an_array_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    arrays: dict[str, Array] = {
        name: np.full(100_000, number, np.float32) for number, name in enumerate("abc")
    }
    data = bytearray(v1(arrays))
    data[len(data) // 2] ^= 1  # within b
    (tmp_path / "x").write_bytes(data)
    with open_tensorflow(tmp_path / "x") as found:
        assert found["c"].sum() == 200_000
        with pytest.raises(WeightsError, match=r"x: b: the checksum of the block at byte \d+ does"):
            found["b"]
        assert found["a"].sum() == 0


@pytest.mark.parametrize(("kind", "what"), [(7, "strings"), (8, "values of TensorFlow's type 8")])
def test_other_types_are_listed_and_refused_by_name(tmp_path: Path, kind: int, what: str) -> None:
    entry = number(1, kind) + message(2) + number(5, 3)
    v2_of({b"one": entry}, tmp_path / "x", b"abc")
    with open_tensorflow(tmp_path / "x") as arrays:
        assert list(arrays) == ["one"]
        assert arrays.shape("one") == ()
        for ask in (arrays.dtype, arrays.__getitem__):
            with pytest.raises(
                WeightsError, match=rf"x: one: it holds {what}\. Expected .* Do not read"
            ):
                ask("one")


def test_values_may_stand_one_by_one_or_in_several_runs(tmp_path: Path) -> None:
    numbers = np.arange(4, dtype=np.float32)
    single = b"".join(b"\x2d" + value.tobytes() for value in numbers[2:])  # field 5, four bytes
    packed = message(5, numbers[:2].tobytes())
    v1_of(described((4,), [whole((4,))]), {whole((4,)): packed + single}, tmp_path / "f")
    assert read_all(tmp_path / "f")["a"].tolist() == [0, 1, 2, 3]
    both = message(7, b"\x01\xac\x02") + number(7, 5)
    v1_of(described((3,), [whole((3,))], kind=3), {whole((3,)): both}, tmp_path / "i")
    assert read_all(tmp_path / "i")["a"].tolist() == [1, 300, 5]


def test_slices_of_a_grid_are_joined(tmp_path: Path) -> None:
    array = np.arange(30, dtype=np.float32).reshape(5, 6)
    parts: list[Slice] = [
        ((0, 2), (0, 4)),
        ((0, 2), (4, 2)),
        ((2, 3), (0, FULL)),
    ]
    pieces = {
        part: message(
            5, array[tuple(slice(a, a + n if n != FULL else None) for a, n in part)].tobytes()
        )
        for part in parts
    }
    v1_of(described((5, 6), reversed(parts)), pieces, tmp_path / "x")
    assert np.array_equal(read_all(tmp_path / "x")["a"], array)


def test_bfloat16_is_widened_exactly(tmp_path: Path) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    data = bits.tobytes()
    entry = (
        number(1, 14) + message(2, shape([1 << 16])) + number(5, len(data)) + fixed32(6, crc(data))
    )
    array = read_all(v2_of({b"a": entry}, tmp_path / "x", data))["a"]
    assert array.dtype == np.float32
    assert np.array_equal(array.view(np.uint32), bits.astype(np.uint32) << 16)


CHILD = """
import sys, tracemalloc
from pathlib import Path
from forebear.weights.readers.tensorflow.open import open_tensorflow
def most():  # kB in memory so far; ru_maxrss would be the parent's where that was larger
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
before = most()
tracemalloc.start()
largest = 0
with open_tensorflow(Path(sys.argv[1])) as arrays:
    for name in arrays:
        array = arrays[name]
        largest = max(largest, array.nbytes)
        del array
print(largest, tracemalloc.get_traced_memory()[1], (most() - before) * 1024)
"""


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_memory_holds_the_largest_array_and_not_the_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    big = [np.full((1000, 1000 * size), size, np.float32) for size in (1, 5, 3, 4, 2)]
    arrays: dict[str, Array] = {f"a{at}": array for at, array in enumerate(big)}  # 60 MB
    if kind == "v1":
        path.write_bytes(v1(arrays))
    else:
        data = b"".join(array.tobytes() for array in big)
        entries, offset = {}, 0
        for name, array in arrays.items():
            entries[name.encode()] = (
                number(1, 1)
                + message(2, shape(array.shape))
                + number(4, offset)
                + number(5, array.nbytes)
                + fixed32(6, crc(array.tobytes()))
            )
            offset += array.nbytes
        v2_of(entries, path, data)
    answer = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True
    )
    largest, heap, resident = map(int, answer.stdout.split())
    assert largest == 20_000_000
    assert heap < 1.5 * largest + 50e6
    assert heap < (2.1 if kind == "v1" else 1.1) * largest + 2e6  # V1: the array and its block
    assert resident < 1.5 * largest + 50e6


def test_a_small_block_is_read_once_for_its_many_arrays() -> None:
    with open_tensorflow(GOLDENS / "slim_tiny_v2.format_v1.ckpt") as arrays:
        list(arrays.values())
        tracemalloc.start()
        try:
            arrays["tiny_v2/logits/biases"]
            assert tracemalloc.get_traced_memory()[1] < 40_000  # the block has 80,000
        finally:
            tracemalloc.stop()


def test_arrays_outlive_their_file(tmp_path: Path) -> None:
    with open_tensorflow(copied(GOLDENS / "odd.format_v1.ckpt", tmp_path)) as arrays:
        weights = arrays["odd/weights"]
    (tmp_path / "odd.format_v1.ckpt").unlink()
    weights += 1
    assert weights.shape == (10, 6)
