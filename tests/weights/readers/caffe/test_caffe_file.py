"""Caffe models are read by their layers. tests/peers/test_caffe.py compares with OpenCV's Caffe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import forebear
from forebear.weights.readers.caffe.caffe_file import CaffeArrays, is_caffe
from forebear.weights.readers.caffe.graph import to_graph
from forebear.weights.readers.caffe.layers import parse
from forebear.weights.readers.detect import open_arrays
from forebear.weights.writers.tensorflow.protobuf import message, number, varint
from tests.network.making import make
from tests.weights.caffe_making import CAFFE, Made, blob, layers_of, net
from tests.weights.readers.making import damaged, refusal

TABLE = forebear.Table(
    "small",
    (forebear.Conv("conv1", 8, 7, stride=2), forebear.Pool("pool1")),
    "bottleneck",
    (
        forebear.Block("block1", 2, 4, 16, 1),
        forebear.Block("block2", 2, 8, 32, 2, groups=4),
    ),
)
NETWORK = make(TABLE, CAFFE, num_classes=5)
LAYERS = layers_of(NETWORK)
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def logits(network: forebear.Network) -> Tensor:
    with torch.inference_mode():
        found: Tensor = network.eval()(IMAGES)
    return found


def written(folder: Path, layers: list[Made] = LAYERS, *, side: int | None = 224) -> Path:
    path = folder / "a.caffemodel"
    path.write_bytes(net(layers, side=side))
    return path


def assert_is_ours(path: Path) -> forebear.Network:
    found = forebear.load(path)
    assert found.plan.table.blocks == TABLE.blocks
    torch.testing.assert_close(logits(found), logits(NETWORK), rtol=0, atol=2e-6)
    return found


def test_a_model_has_the_function_of_its_layers(tmp_path: Path) -> None:
    found = assert_is_ours(written(tmp_path))
    assert found.plan.dialect.name == "caffe"
    assert found.plan.dialect.strided_conv == "conv1"
    assert found.plan.dialect.pool_padding == "same"
    assert found.card.preprocessing.order == "BGR"
    assert found.card.preprocessing.mean == (103.939, 116.779, 123.68)
    notes = found.card.provenance["notes"]
    assert "biases before norms, now part of the running means: 1" in notes
    assert "the originals subtract a mean image" in notes


@pytest.mark.parametrize("factor", [1.0, 999.9823])
def test_statistics_are_divided_by_the_factor_of_the_layer(factor: float, tmp_path: Path) -> None:
    assert_is_ours(written(tmp_path, layers_of(NETWORK, factor=factor, bias=False)))


def test_statistics_with_the_factor_zero_are_zero(tmp_path: Path) -> None:
    """batch_norm_layer.cpp: they have never been updated."""
    first = next(one for one in LAYERS if one.kind == "BatchNorm")
    zero = replace(first, blobs=(*first.blobs[:2], np.zeros(1, np.float32)))
    path = written(tmp_path, [zero if one is first else one for one in LAYERS])
    with open_arrays(path) as arrays:
        assert not arrays["bn_conv1/2"].any()
        assert not arrays["bn_conv1/3"].any()


def test_arrays_have_the_names_of_their_layers(tmp_path: Path) -> None:
    with open_arrays(written(tmp_path)) as arrays:
        assert isinstance(arrays, CaffeArrays)
        assert arrays.shape("conv1/0") == (8, 3, 7, 7)
        assert arrays.dtype("fc1000/1") == np.float32
        expected = NETWORK.state_dict()["logits.weight"].numpy()
        assert np.array_equal(arrays["fc1000/0"], expected)


def test_a_snapshot_of_training_is_read(tmp_path: Path) -> None:
    """It has layers of data for both phases, splits, and the loss in place of the probabilities."""
    data = [Made("data", "Data", (), ("data", "label"))] * 2
    split = Made("split", "Split", ("data",), ("data_0", "data_1"))
    first = replace(LAYERS[0], bottoms=("data_0",))
    loss = Made("loss", "SoftmaxWithLoss", ("fc1000", "label"), ("loss",))
    accuracy = Made("accuracy", "Accuracy", ("fc1000", "label"), ("accuracy",))
    found = written(tmp_path, [*data, split, first, *LAYERS[1:-1], loss, accuracy], side=None)
    assert_is_ours(found)


def test_a_layer_of_input_gives_the_size(tmp_path: Path) -> None:
    sides = b"".join(varint(side) for side in (1, 3, 64, 64))
    layer = b"".join(
        [
            message(1, b"data"), message(2, b"Input"), message(4, b"data"),
            message(143, message(1, message(1, sides))),
        ]
    )  # fmt: skip
    path = tmp_path / "a.caffemodel"
    body = b"".join(message(100, one.binary()) for one in LAYERS)
    path.write_bytes(message(100, layer) + body)
    with open_arrays(path) as arrays:
        assert isinstance(arrays, CaffeArrays)
        assert arrays.graph.inputs[0].dims == (1, 3, 64, 64)
        assert "images of 64 pixels" in arrays.notes[1]
    assert_is_ours(path)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_arrays_of_all_kinds_are_read(old: bool, kind: type[np.float32 | np.float64]) -> None:
    values = np.arange(6, dtype=kind).reshape(2, 3)
    layer = message(1, b"a") + message(2, b"InnerProduct") + message(7, blob(values, old=old))
    (found,) = parse(memoryview(message(100, layer))).layers
    assert found.blobs[0].dtype == kind
    assert found.blobs[0].shape == ((1, 1, 2, 3) if old else (2, 3))
    assert found.blobs[0].reshape(2, 3).tolist() == values.tolist()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_values_that_are_not_packed_are_joined(kind: type[np.float32 | np.float64]) -> None:
    """A parser of protocol buffers has to take fields of one value, and several packed ones."""
    field, wire = (5, 5) if kind is np.float32 else (8, 1)
    one = np.arange(6, dtype=kind)
    single = [varint(field << 3 | wire) + value.tobytes() for value in one[2:]]
    stored = message(7, message(1, varint(6))) + message(field, one[:2].tobytes())
    layer = message(1, b"a") + message(7, b"".join([stored, *single]))
    (found,) = parse(memoryview(message(100, layer))).layers
    assert found.blobs[0].dtype == kind
    assert found.blobs[0].tolist() == [0, 1, 2, 3, 4, 5]


def test_values_of_float64_are_preferred() -> None:
    """As by Blob::FromProto of Caffe's blob.cpp."""
    stored = message(8, np.ones(2).tobytes()) + message(5, np.zeros(2, np.float32).tobytes())
    layer = message(7, message(7, message(1, varint(2))) + stored)
    (found,) = parse(memoryview(message(100, layer))).layers
    assert found.blobs[0].tolist() == [1, 1]


def test_arrays_of_many_layers_of_one_name_have_short_names() -> None:
    """With one more character each, a file of 1 MB took minutes."""
    layer = Made("a", "InnerProduct", ("data",), ("data",), (np.ones((1, 1), np.float32),))
    graph = to_graph(parse(memoryview(net([layer] * 200))))
    names = [*graph.tensors]
    assert names[:3] == ["a/0", "a/0#2", "a/0#3"]
    assert names[-1] == "a/0#200"
    assert [node.inputs[1] for node in graph.nodes] == names


def without_norms(layers: list[Made]) -> list[Made]:
    return [one for one in layers if one.kind != "BatchNorm"]


def with_slope(layers: list[Made]) -> list[Made]:
    return [replace(one, kind="ELU") if one.kind == "ReLU" else one for one in layers]


def with_lrn(layers: list[Made]) -> list[Made]:
    return [*layers[:1], Made("norm1", "LRN", ("conv1",), ("conv1",)), *layers[1:]]


def with_product(layers: list[Made]) -> list[Made]:
    return [
        replace(one, values={"operation": 0}) if one.kind == "Eltwise" else one for one in layers
    ]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (without_norms, "'scale_conv1' (Scale) is there"),
        (with_slope, "(ELU) is there"),
        (with_lrn, "the first AlexNet normalises across channels"),
        (with_product, "(Eltwise) is there"),
    ],
)
def test_other_networks_are_refused_by_their_first_layer(
    change: Callable[[list[Made]], list[Made]], why: str, tmp_path: Path
) -> None:
    with pytest.raises(forebear.WeightsError) as caught:
        forebear.load(written(tmp_path, change(LAYERS)))
    assert "this Caffe model is no network of forebear" in str(caught.value)
    assert str(caught.value).endswith("Run other networks in the library that wrote the file.")
    assert why in str(caught.value)


def only(*layers: bytes) -> bytes:
    return message(1, b"net") + b"".join(message(100, one) for one in layers)


def layer(kind: bytes, *parts: bytes) -> bytes:
    return b"".join(
        [message(1, b"a"), message(2, kind), message(3, b"x"), message(4, b"y"), *parts]
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (message(1, b"AlexNet") + message(2, message(4, b"conv1")), "without batch norm"),
        (only(layer(b"ReLU")), "takes 'x', which no layer gives"),
        (only(message(1, b"a") + message(2, b"ReLU")), "has no input or no output"),
        (only(message(7, message(7, message(1, varint(3))))), "0 values for the shape [3]"),
        (only(message(7, message(5, b"12345"))), "the last one is cut"),
        (only(message(7, number(1, 2**40))), "is not possible"),
        (only(message(7, number(5, 3))), "are no floats"),
        (only(message(7, varint(8 << 3 | 5) + bytes(4))), "are no floats"),
        (only(message(7, message(7, varint(1 << 3) + b"\1"))), "0 values for the shape [1]"),
        (only(message(7, message(7, b"\x08\1" * 65))), "a shape has more than 64 sides"),
        (only(message(1, b"a" * 1001)), "a name has 1001 characters"),
        (only(b"".join([message(3, b"x")] * 65)), "more than 64 inputs"),
        (only(message(106, b"".join([number(6, 1)] * 65))), "more than 64 values"),
        (only(message(139, varint(3 << 3) + varint(1))), "not of floats"),
    ],
)
def test_damaged_files_are_refused(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "a.caffemodel"
    path.write_bytes(content)
    assert is_caffe(content)
    assert why in refusal(path)


def test_layers_of_another_number_of_arrays_are_refused(tmp_path: Path) -> None:
    layers = [replace(one, blobs=()) if one.name == "bn_conv1" else one for one in LAYERS]
    said = refusal(written(tmp_path, layers))
    assert "layer bn_conv1 (BatchNorm) has 0 arrays instead of 3" in said


SHORT = net(layers_of(make(TABLE, CAFFE, num_classes=5))[:5])


def test_every_cut_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.caffemodel"
    for end in (*range(6, 300), *range(300, len(SHORT), 97)):
        path.write_bytes(SHORT[:end])
        with pytest.raises(forebear.WeightsError, match="Expected"):
            forebear.load(path)


@pytest.mark.parametrize("seed", range(50))
def test_mutations_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    from tests.fuzzing import fault

    assert fault("caffe", damaged(net(LAYERS), seed), tmp_path / "x") is None


def test_other_files_are_no_caffe_models() -> None:
    graph_def = message(1, message(1, b"x") + message(2, b"Placeholder"))
    assert not is_caffe(graph_def)
    assert not is_caffe(b"")
    assert not is_caffe(b"\x0a")
    assert not is_caffe(b"\x0a\x03abc\x99")
