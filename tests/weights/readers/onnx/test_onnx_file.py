"""ONNX files open as arrays by name; damaged ones are refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forebear.weights.readers.detect import open_arrays
from forebear.weights.readers.onnx.onnx_file import OnnxArrays, is_onnx
from forebear.weights.readers.onnx.records import Node
from forebear.weights.readers.onnx.tensors import tensor as parsed
from forebear.weights.writers.tensorflow.protobuf import message, number, varint
from tests.weights.onnx_making import model, tensor, text
from tests.weights.readers.making import damaged, refusal

GOLDEN = Path(__file__).parents[2] / "goldens" / "families" / "zoo_mxnet_v2_bottleneck.onnx"
FLOATS = np.array([[1.5, -2.0, 0.25]], np.float32)
INTS = np.array([3, -1, 2**40], np.int64)


def packed(field: int, values: NDArray[Any]) -> bytes:
    return message(field, b"".join(varint(int(one) % 2**64) for one in values))


@pytest.mark.parametrize(
    ("values", "parts", "kind"),
    [
        (FLOATS, (), 1),
        (FLOATS, (message(4, FLOATS.tobytes()),), 1),
        (FLOATS.astype(np.float64), (message(10, FLOATS.astype(np.float64).tobytes()),), 11),
        (FLOATS.astype(np.float16), (), 10),
        (FLOATS.astype(np.float16), (packed(5, FLOATS.astype(np.float16).view(np.uint16)[0]),), 10),
        (INTS, (), 7),
        (INTS, (packed(7, INTS),), 7),
        (INTS.astype(np.int32)[:2], (packed(5, INTS[:2]),), 6),
    ],
)
def test_arrays_of_every_form_are_read(
    values: NDArray[Any], parts: tuple[bytes, ...], kind: int, tmp_path: Path
) -> None:
    (tmp_path / "a.onnx").write_bytes(model([], [tensor("a", values, *parts, kind=kind)]))
    with open_arrays(tmp_path / "a.onnx") as arrays:
        assert list(arrays) == ["a"]
        assert arrays.shape("a") == arrays["a"].shape == values.shape
        assert arrays.dtype("a") == arrays["a"].dtype == values.dtype
        assert arrays["a"].tobytes() == values.tobytes()
        assert arrays.format == "ONNX graph of by hand"


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    halves = (FLOATS.view(np.uint32) >> 16).astype(np.uint16)
    held = tensor("a", FLOATS, message(9, halves.tobytes()), kind=16)
    (tmp_path / "a.onnx").write_bytes(model([], [held]))
    with open_arrays(tmp_path / "a.onnx") as arrays:
        assert arrays.dtype("a") == np.float32
        assert arrays["a"].tolist() == FLOATS.tolist()


def test_constants_of_nodes_are_arrays(tmp_path: Path) -> None:
    fill = {"value": parsed(memoryview(tensor("", np.array([0.5], np.float32))))}
    whole = {"value": parsed(memoryview(tensor("", FLOATS)))}
    nodes = [
        Node("ConstantOfShape", "", ("shape",), ("filled",), dict(fill)),
        Node("Constant", "", (), ("held",), dict(whole)),
        Node("Identity", "", ("held",), ("same",), {}),
    ]
    shape = tensor("shape", np.array([2, 3], np.int64))
    (tmp_path / "a.onnx").write_bytes(model(nodes, [shape]))
    with open_arrays(tmp_path / "a.onnx") as arrays:
        assert isinstance(arrays, OnnxArrays)
        assert not arrays.graph.nodes
        assert arrays["filled"].tolist() == [[0.5] * 3] * 2
        assert arrays["held"].tolist() == arrays["same"].tolist() == FLOATS.tolist()


def outside(location: str, offset: int = 4, length: int = 12) -> bytes:
    said = {"location": location, "offset": str(offset), "length": str(length)}
    pairs = [message(13, text(1, key), text(2, value)) for key, value in said.items()]
    return tensor("a", FLOATS, *pairs, number(14, 1), kind=1)


def test_values_in_a_file_beside_it_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.onnx.data").write_bytes(b"1234" + FLOATS.tobytes())
    (tmp_path / "a.onnx").write_bytes(model([], [outside("a.onnx.data")]))
    with open_arrays(tmp_path / "a.onnx") as arrays:
        assert arrays["a"].tolist() == FLOATS.tolist()


@pytest.mark.parametrize(
    ("location", "offset", "length", "why"),
    [
        ("../a.data", 4, 12, "no name of a file in the same folder"),
        ("/etc/passwd", 4, 12, "no name of a file in the same folder"),
        ("sub/a.data", 4, 12, "no name of a file in the same folder"),
        ("sub\\a.data", 4, 12, "no name of a file in the same folder"),
        ("..", 4, 12, "no name of a file in the same folder"),
        ("", 4, 12, "no name of a file in the same folder"),
        ("missing", 4, 12, "No such file"),
        ("link", 4, 12, "it is a link"),
        ("a.data", 8, 12, "ends before its values"),
        ("a.data", -4, 12, "it has 12 bytes for 3 values"),
        ("a.data", 4, 2**40, "bytes for 3 values"),
    ],
)
def test_values_elsewhere_are_refused(
    location: str, offset: int, length: int, why: str, tmp_path: Path
) -> None:
    (tmp_path / "a.data").write_bytes(b"1234" + FLOATS.tobytes())
    (tmp_path / "link").symlink_to(tmp_path / "a.data")
    (tmp_path / "a.onnx").write_bytes(model([], [outside(location, offset, length)]))
    assert why in refusal(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (number(1, 9) + text(2, "x"), "it has no graph"),
        (model([], [tensor("a", FLOATS), tensor("a", FLOATS)]), "two arrays have this name"),
        (model([], [tensor("a", FLOATS, kind=8)]), "its type 8 is not one of numbers"),
        (model([], [tensor("a", FLOATS, message(9, b"123"))]), "3 bytes of 4 for each value"),
        (model([], [tensor("a", FLOATS, message(9, b"1234"))]), "1 values instead of 3"),
        (model([], [tensor("a", np.empty((1,) * 9, np.float32))]), "is not possible"),
        (model([], [varint(8) + varint(2**31) + number(2, 1)]), "is not possible"),
        (model([], [message(1, bytes(10**6)) + number(2, 1)]), "more than 64 integers"),
        (model([], [varint(8) + varint(2**64 - 2) + number(2, 1)]), "is not possible"),
        (model([Node("Conv", "", ("a" * 1001,), ("y",), {})], []), "a name has 1001 characters"),
        (model([Node("Sum", "", ("a",) * 65, ("y",), {})], []), "more than 64 inputs"),
        (model([], []) + message(25, b""), "it has functions of its own"),
    ],
)
def test_damaged_files_are_refused(content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    assert is_onnx(content)
    assert why in refusal(tmp_path / "a.onnx")


def test_every_cut_is_refused(tmp_path: Path) -> None:
    whole = model([Node("Relu", "", ("x",), ("y",), {"a": 1})], [tensor("a", FLOATS)])
    for end in range(3, len(whole) - len(message(8, number(2, 17)))):
        (tmp_path / "a.onnx").write_bytes(whole[:end])
        refusal(tmp_path / "a.onnx")


@pytest.mark.parametrize("seed", range(50))
def test_mutations_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    from tests.fuzzing import fault

    assert fault("onnx", damaged(GOLDEN.read_bytes(), seed), tmp_path / "x") is None
