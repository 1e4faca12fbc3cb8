"""ONNX graphs load as networks by their structure, and others are refused by the node that differs.

goldens/families has three of them: torchvision's ResNet by torch 2.13.0's dynamo exporter, and
graphs of the form of the model zoo's MXNet networks, with the logits of onnxruntime 1.32.0. All
others are in ../shared/goldens/families.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import forebear
from forebear import WeightsError
from forebear.tables.dialects import DIALECTS
from forebear.tables.preprocessing import TORCHVISION, Preprocessing
from forebear.tables.registry import find
from forebear.tables.resnet import cifar_root
from forebear.tables.rows import Block, Conv, Pool, Table
from forebear.weights.assign import load_arrays
from forebear.weights.readers.onnx.records import Node, Value
from tests.weights.onnx_making import Editor

GOLDENS = Path(__file__).parent / "goldens" / "families"
SHARED = Path(__file__).parents[3] / "shared" / "goldens" / "families"
DYNAMO, V1, V2 = "basic.dynamo", "zoo_mxnet_v1_bottleneck", "zoo_mxnet_v2_bottleneck"
TOLERANCE = 1e-5


def logits(network: forebear.Network, images: NDArray[Any]) -> NDArray[Any]:
    given = np.ascontiguousarray(images.transpose(0, 3, 1, 2).astype(np.float32))
    with torch.inference_mode():
        found: NDArray[Any] = network(torch.from_numpy(given)).numpy()
    return found


def normalised(images: NDArray[Any], rule: Preprocessing) -> NDArray[Any]:
    """What a network takes for images that torchvision's preprocessing made."""
    pixels = images * np.array(TORCHVISION.std) + np.array(TORCHVISION.mean)
    found: NDArray[Any] = (pixels - np.array(rule.mean)) / np.array(rule.std)
    return found


def apart(path: Path, name: str = "") -> float:
    """The largest difference of a file's logits to those of a golden."""
    network = forebear.load(path)
    with np.load(GOLDENS / "onnx_expected.npz") as expected:
        images, wanted = expected["input"], expected[name or path.name.removesuffix(".onnx")]
    if "v2" in (name or path.name):
        images = normalised(images, network.preprocessing)
    return float(np.abs(logits(network, images) - wanted).max())


def edited(name: str, tmp_path: Path, change: Callable[[Editor], object]) -> Path:
    graph = Editor(GOLDENS / f"{name}.onnx")
    change(graph)
    return graph.write(tmp_path / "edited.onnx")


# ---- Files of others


@pytest.mark.parametrize(
    ("name", "dialect", "units", "notes"),
    [
        (DYNAMO, "torchvision", (2, 1, 1, 1), ("pytorch 2.13.0", "its norms are folded")),
        (V1, "onnx", (1, 2, 1), ("of mxnet", "now part of the running means: 8")),
        (V2, "onnx", (2, 1, 1), ("folded into convolutions: 1", "mean 0.323, 0.3058, 0.2494")),
    ],
)
def test_a_graph_gives_its_logits(
    name: str, dialect: str, units: tuple[int, ...], notes: tuple[str, ...]
) -> None:
    path = GOLDENS / f"{name}.onnx"
    assert apart(path) < TOLERANCE
    network = forebear.load(path)
    assert network.dialect.name == dialect
    assert tuple(block.units for block in network.table.blocks) == units
    for words in (*notes, "names no preprocessing: images are preprocessed as for"):
        assert words in network.card.provenance["notes"]


def test_the_arrays_are_never_taken_by_their_names() -> None:
    """The dynamo exporter folds the norms into arrays that keep the names of the state dict."""
    path = GOLDENS / f"{DYNAMO}.onnx"
    folded = forebear.read_arrays(path)
    assert "layer1.0.conv1.weight" in folded
    network = forebear.load(path)
    assert network.get_parameter("block1.unit_1.conv1.norm.bias").any()
    created = forebear.create(network.table, dialect="torchvision", num_classes=9)
    load_arrays(created, folded)
    assert (logits(created.eval(), np.ones((1, 32, 32, 3))) == logits(
        network, np.ones((1, 32, 32, 3))
    )).all()  # fmt: skip


def test_a_known_network_takes_the_weights_of_its_graph_only() -> None:
    path = GOLDENS / f"{DYNAMO}.onnx"
    table = forebear.load(path).table
    same = forebear.load(table, weights=path, dialect="paper-resnext")
    with np.load(GOLDENS / "onnx_expected.npz") as expected:
        assert np.abs(logits(same, expected["input"]) - expected[DYNAMO]).max() < TOLERANCE
    with pytest.raises(WeightsError, match=r"another network than resnet12 in dialect keras-v1: "):
        forebear.load(table, weights=path, dialect="keras-v1")
    with pytest.raises(WeightsError, match=r"another network than resnet18 in dialect torchvision"):
        forebear.load("torchvision/resnet18", weights=path)


def test_the_body_leaves_out_the_classifier() -> None:
    path = GOLDENS / f"{V1}.onnx"
    features = logits(forebear.load(path, which="body"), np.ones((1, 32, 32, 3)))
    assert features.shape == (1, 32)
    with pytest.raises(WeightsError, match=r"which='ema': .*has one set of weights"):
        forebear.load(path, which="ema")


def _shared() -> list[str]:
    found = (SHARED / "onnx").glob("*.onnx") if SHARED.is_dir() else ()
    return sorted(path.name.removesuffix(".onnx") for path in found)


@pytest.mark.skipif(not SHARED.is_dir(), reason="its files are beside the repository")
@pytest.mark.parametrize("name", _shared())
def test_every_file_beside_the_repository(name: str) -> None:
    network = forebear.load(SHARED / "onnx" / f"{name}.onnx")
    with (
        np.load(SHARED / "inputs.npz") as inputs,
        np.load(SHARED / "onnx" / f"{name}.expected.npz") as wanted,
    ):
        for size in inputs.files:
            images = inputs[size]
            if "mxnet_v2" in name:
                images = normalised(images, network.preprocessing)
            assert np.abs(logits(network, images) - wanted[f"{size}/logits"]).max() < TOLERANCE


def test_the_graph_in_the_onnx_wheel_is_resnet50() -> None:
    onnx = pytest.importorskip("onnx")
    light = Path(onnx.__file__).parent / "backend/test/data/light"
    network = forebear.load(light / "light_resnet50.onnx")
    assert network.card.provenance["network"] == "torchvision/resnet50"
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(light / "light_resnet50.onnx")
    images = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype(np.float32)
    given = {session.get_inputs()[0].name: images.transpose(0, 3, 1, 2)}
    (wanted,) = session.run(None, given)
    found = torch.from_numpy(logits(network, images)).softmax(1).numpy()
    assert np.abs(found - wanted).max() < TOLERANCE
    assert {*network.get_parameter("root.conv1.conv.weight").flatten().tolist()} == {
        np.float32(0.02)
    }
    with pytest.raises(WeightsError, match=r"node 'n3' \(LRN\) is there \(the first AlexNet"):
        forebear.load(light / "light_inception_v1.onnx")


# ---- forebear's own graphs

_ROOT = (Conv("conv1", 8, 7, stride=2), Pool("pool1"))
TABLES = {
    "basic": Table("t", _ROOT, "basic", (Block("b1", 2, 8, 8), Block("b2", 1, 12, 12, 2))),
    "bottleneck": Table("t", _ROOT, blocks=(Block("b1", 2, 4, 16), Block("b2", 2, 8, 32, 2))),
    "grouped": Table(
        "t", _ROOT, blocks=(Block("b1", 2, 8, 16, groups=2), Block("b2", 1, 16, 32, 2, groups=4))
    ),
    "small": Table("t", cifar_root(8), "basic", (Block("b1", 1, 8, 8), Block("b2", 2, 16, 16, 2))),
}


def own(form: str, dialect: str) -> forebear.Network:
    network = forebear.create(replace(TABLES[form], image_size=64, classes=5), dialect=dialect)
    generator = torch.Generator().manual_seed(0)
    for name, array in network.state_dict().items():
        if name.endswith(("norm.weight", "norm.running_var")):
            array.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("bias", "running_mean")):
            array.uniform_(-0.3, 0.3, generator=generator)
    small = replace(network.preprocessing, size=64, side=64)
    network.card = replace(network.card, preprocessing=small, classes=("a", "b", "c", "d", "e"))
    return network.eval()


@pytest.mark.parametrize("lowered", [True, False])
@pytest.mark.parametrize("pixels", [True, False])
@pytest.mark.parametrize(
    ("form", "dialect"),
    [
        ("basic", "torchvision"), ("basic", "paper-v1-a"), ("basic", "keras-v2"),
        ("bottleneck", "slim-v1"), ("bottleneck", "keras-v1"), ("bottleneck", "timm-v2"),
        ("bottleneck", "detectron"), ("grouped", "torchvision"), ("grouped", "keras-resnext"),
        ("bottleneck", "slim-v2"), ("small", "paper-cifar"), ("small", "keras-lists"),
        ("small", "paper-v2"),
    ],
)  # fmt: skip
@pytest.mark.long(after=13)
def test_forebears_own_graph_comes_back(
    form: str, dialect: str, pixels: bool, lowered: bool, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    from forebear.engines.onnx_model import write_onnx

    network = own(form, dialect)
    write_onnx(network, tmp_path / "m.onnx", pixels=pixels, lowered=lowered)
    back = forebear.load(tmp_path / "m.onnx")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    with torch.inference_mode():
        wanted, found = (one(one.preprocess(image)) for one in (network, back))
    assert (wanted - found).abs().max() < 1e-5 * max(1, float(wanted.abs().max()))
    assert back.classes == network.classes
    assert "names no preprocessing" not in back.card.provenance["notes"]


def alexnet(name: str) -> forebear.Network:
    """One of the two AlexNets with few channels."""
    table, dialect = find(name).table, find(name).dialect
    few = {"conv1": 4, "conv2": 6, "conv3": 5, "conv4": 7, "conv5": 4, "fc6": 9, "fc7": 8}
    layers = tuple(
        replace(row, channels=few[row.name]) if isinstance(row, Conv) else row
        for row in table.layers
    )
    first = table.root[0]
    assert isinstance(first, Conv)
    root = (replace(first, channels=few[first.name]),)
    torch.manual_seed(0)
    network = forebear.create(replace(table, root=root, layers=layers, classes=5), dialect=dialect)
    for array in network.parameters():
        array.data.normal_(std=0.1)
    return network.eval()


@pytest.mark.parametrize("name", ["slim/alexnet_v2", "torchvision/alexnet"])
@pytest.mark.parametrize("lowered", [True, False])
def test_an_alexnet_of_forebears_own_comes_back(name: str, lowered: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from forebear.engines.onnx_model import write_onnx

    network, path = alexnet(name), tmp_path / "m.onnx"
    write_onnx(network, path, lowered=lowered)
    same_alexnet(network, path)


def test_an_alexnet_of_torchs_exporter_comes_back(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    network, path = alexnet("slim/alexnet_v2"), tmp_path / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.rand(1, 3, 224, 224),), path, dynamo=False)
    same_alexnet(network, path)


def same_alexnet(network: forebear.Network, path: Path) -> None:
    back = forebear.load(path)
    assert (back.dialect.name, back.table.layers) == (network.dialect.name, network.table.layers)
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3)).astype(np.uint8)
    with torch.inference_mode():
        wanted, found = (one(one.preprocess(image)) for one in (network, back))
    assert (wanted - found).abs().max() < 1e-5 * float(wanted.abs().max())
    assert "a chain of layers without units" in back.card.provenance["notes"]


def test_an_alexnet_with_linear_layers_is_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    small = nn.Sequential(
        nn.Conv2d(3, 4, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(4, 4, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d(6), nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 5),
    )  # fmt: skip
    path = tmp_path / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(small.eval(), (torch.rand(1, 3, 224, 224),), path, dynamo=False)
    with pytest.raises(WeightsError, match="an AlexNet whose linear layers are no convolutions"):
        forebear.load(path)


# ---- Graphs with one change that keeps the function


def as_matmul(graph: Editor) -> None:
    gemm = graph.change("Gemm")
    _, weight, bias = gemm.inputs
    graph.arrays[weight] = graph.arrays[weight].T.copy()
    graph.nodes.remove(graph.nodes[graph.place("Gemm")])
    graph.nodes.append(Node("MatMul", "m", (gemm.inputs[0], weight), ("product",), {}))
    graph.nodes.append(Node("Add", "a", (bias, "product"), gemm.outputs, {}))


def as_conv(graph: Editor) -> None:
    gemm, flat = graph.change("Gemm"), graph.change("Flatten")
    weight = gemm.inputs[1]
    graph.arrays[weight] = graph.arrays[weight][:, :, None, None]
    graph.nodes = [one for one in graph.nodes if one.op not in ("Gemm", "Flatten")]
    inputs = (flat.inputs[0], *gemm.inputs[1:])
    graph.nodes.append(Node("Conv", "c", inputs, ("map",), {}))
    graph.nodes.append(Node("Flatten", "f", ("map",), gemm.outputs, {}))


def with_pad(graph: Editor) -> None:
    conv = graph.change("Conv", attributes={"pads": (0, 0, 0, 0)})
    graph.arrays["around"] = np.array([0, 0, 3, 3, 0, 0, 3, 3], np.int64)
    graph.insert(conv.inputs[0], "Pad", "around")


def scaled(graph: Editor) -> None:
    graph.change("Gemm", attributes={"alpha": 2.0, "beta": 0.5})
    _, weight, bias = graph.nodes[graph.place("Gemm")].inputs
    graph.arrays[weight], graph.arrays[bias] = graph.arrays[weight] / 2, graph.arrays[bias] * 2


def other_epsilon(graph: Editor) -> None:
    norm = graph.change("BatchNormalization", 2, attributes={"epsilon": 0.25})
    graph.arrays[norm.inputs[4]] = graph.arrays[norm.inputs[4]] + np.float32(1e-5 - 0.25)


SAME: dict[str, Callable[[Editor], object]] = {
    "as it is": lambda graph: None,
    "IR 3 lists the initializers": lambda graph: setattr(
        graph, "inputs", (*graph.inputs, *(Value(name, 1, ()) for name in graph.arrays))
    ),
    "Sum": lambda graph: graph.change("Add", op="Sum"),
    "branches exchanged": lambda graph: graph.change(
        "Add", inputs=graph.nodes[graph.place("Add")].inputs[::-1]
    ),
    "Identity and Dropout": lambda graph: (
        graph.insert(graph.nodes[graph.place("Relu", 3)].output, "Identity"),
        graph.insert(graph.nodes[graph.place("Flatten")].output, "Dropout"),
    ),
    "auto_pad": lambda graph: graph.change("Conv", 2, attributes={"auto_pad": "SAME_UPPER"}),
    "ReduceMean": lambda graph: graph.change(
        "GlobalAveragePool", op="ReduceMean", attributes={"axes": (-2, -1), "keepdims": 1}
    ),
    "MatMul and Add": as_matmul,
    "Conv as the classifier": as_conv,
    "Pad before the Conv": with_pad,
    "alpha and beta": scaled,
    "one epsilon of its own": other_epsilon,
    "nodes in another order": lambda graph: graph.nodes.reverse(),
}


@pytest.mark.parametrize("what", SAME)
def test_other_spellings_of_the_same_function_load(what: str, tmp_path: Path) -> None:
    assert apart(edited(V1, tmp_path, SAME[what]), V1) < TOLERANCE


def affine(graph: Editor) -> None:
    """(x - 1) * 2 / 4 + 0.5 of the image, which the kernel undoes: x / 2."""
    for op, value in (("Sub", 1.0), ("Mul", 2.0), ("Div", 4.0), ("Add", 0.5)):
        graph.arrays[op] = np.full((1, 3, 1, 1), value, np.float32)
    x = graph.inputs[0].name
    for op in ("Sub", "Mul", "Div", "Add"):
        graph.insert(x, op, op)
        x = f"{x}.{op}"
    graph.arrays["resnetv17_conv0_weight"] = graph.arrays["resnetv17_conv0_weight"] * 2


def test_arithmetic_on_the_image_is_part_of_the_preprocessing(tmp_path: Path) -> None:
    path = edited(V1, tmp_path, affine)
    network = forebear.load(path)
    assert network.preprocessing.mean == pytest.approx(TORCHVISION.mean)
    assert network.preprocessing.std == pytest.approx([2 * one for one in TORCHVISION.std])


# ---- Graphs with one change that makes them another network


def squeeze(graph: Editor) -> None:
    out = graph.nodes[graph.place("Relu", 4)].output
    graph.insert(out, "GlobalAveragePool")


def three_summands(graph: Editor) -> None:
    graph.arrays["const"] = np.ones((1, 1, 1, 1), np.float32)
    graph.change("Add", inputs=(*graph.nodes[graph.place("Add")].inputs, "const"), op="Sum")


REFUSED: dict[str, tuple[Callable[[Editor], object], str]] = {
    "pooled projection": (
        lambda graph: graph.change(
            "Conv", 4, op="AveragePool", attributes={"kernel_shape": (2, 2)}
        ),
        r"node 't12' \(AveragePool\) is there \(a ResNet-D pools before its projections\)",
    ),
    "squeeze and excitation": (squeeze, r"'new GlobalAveragePool' .*an SE-ResNet weights"),
    "one stride": (
        lambda graph: graph.change("Conv", 6, attributes={"strides": (2, 2)}),
        r"node 't19' \(Conv\) has stride 2.*stride 1, as in block2\.unit_1\.conv2",
    ),
    "strides that differ": (
        lambda graph: graph.change("Conv", attributes={"strides": (2, 1)}),
        r"node 't0' \(Conv\) has kernel \[7, 7\], strides \[2, 1\]",
    ),
    "pads": (
        lambda graph: graph.change("Conv", 2, attributes={"pads": (2, 2, 0, 0)}),
        r"node 't7' \(Conv\) has pads \[2, 2, 0, 0\].*1 on each side, as in block1\.unit_1\.conv2",
    ),
    "one dilation": (
        lambda graph: graph.change(
            "Conv", 2, attributes={"dilations": (2, 2), "pads": (1, 1, 1, 1)}
        ),
        r"node 't7' \(Conv\) has pads",
    ),
    "other activation": (
        lambda graph: graph.change("Relu", 1, op="LeakyRelu"),
        r"node 't6' \(LeakyRelu\) is there \(a Darknet",
    ),
    "no activation": (
        lambda graph: graph.change("Relu", 1, op="Identity"),
        r"node 't4' \(Conv\) has no Relu after it.*a Relu, as in block1\.unit_1\.conv1",
    ),
    "concatenation": (
        lambda graph: graph.change("Add", op="Concat"),
        r"\(Concat\) is there \(an Inception or a DenseNet",
    ),
    "a product": (lambda graph: graph.change("Add", op="Mul"), r"node 't14' \(Mul\) is there"),
    "three summands": (three_summands, r"node 't14' \(Sum\) is there"),
    "a norm of the batch": (
        lambda graph: graph.change("BatchNormalization", 1, attributes={"training_mode": 1}),
        r"node 't5' \(BatchNormalization\) is exported for training",
    ),
    "a group norm": (
        lambda graph: graph.change("BatchNormalization", 1, op="GroupNormalization"),
        r"\(GroupNormalization\) is there \(a BiT",
    ),
    "a max at the end": (
        lambda graph: graph.change("GlobalAveragePool", op="GlobalMaxPool"),
        r"node 't50' \(GlobalMaxPool\) is there",
    ),
    "part of the mean": (
        lambda graph: graph.change("GlobalAveragePool", op="ReduceMean", attributes={"axes": (3,)}),
        r"node 't50' \(ReduceMean\) is there.*a mean over each whole map",
    ),
    "ceil": (
        lambda graph: graph.change("MaxPool", attributes={"ceil_mode": 1}),
        r"has ceil_mode 1, as Caffe's pools",
    ),
    "a computed kernel": (
        lambda graph: graph.nodes.insert(
            0, replace(graph.change("Conv", inputs=("data", "t0"), outputs=("t0",)), op="Abs")
        ),
        r"nothing takes|no constant|a Conv that takes the image",
    ),
    "an image with a negative scale": (
        lambda graph: (
            graph.arrays.update(minus=np.float32(-1) * np.ones((3, 1, 1), np.float32)),
            graph.insert("data", "Mul", "minus"),
        ),
        r"scales its input by numbers that are not above 0",
    ),
    "more channels than a layer has": (
        lambda graph: graph.change("Conv", attributes={"group": 2**40}),
        r"node 't0' \(Conv\) takes \d+ channels",
    ),
    "a circle of casts": (
        lambda graph: graph.nodes.append(Node("Cast", "c", ("data",), ("data",), {})),
        r"2 nodes take|a Conv that takes the image|takes what it gives",
    ),
    "a circle": (
        lambda graph: setattr(graph, "nodes", [Node("Cast", "c", ("data",), ("data",), {})]),
        r"node 'c' \(Cast\) takes what it gives",
    ),
    "two inputs": (
        lambda graph: setattr(graph, "inputs", (*graph.inputs, Value("more", 1, ()))),
        r"the graph has 2 inputs \('data', 'more'\)",
    ),
    "a further branch": (
        lambda graph: graph.nodes.append(Node("Exp", "e", ("t51",), ("z",), {})),
        r"2 nodes take 't51'|no further branch",
    ),
    "more after the logits": (
        lambda graph: graph.insert(graph.outputs[0].name, "Exp"),
        r"node 'new Exp' \(Exp\) is there.*the end of the graph",
    ),
    "an operation of its own": (
        lambda graph: graph.change("Conv", 1, op="com.microsoft.FusedConv"),
        r"FusedConv\) is there \(ONNX Runtime optimised",
    ),
    "int8": (
        lambda graph: graph.insert("resnetv17_pool0_fwd", "QuantizeLinear"),
        r"\(QuantizeLinear\) is there \(a quantised graph",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_another_network_is_refused_by_the_node(what: str, tmp_path: Path) -> None:
    change, words = REFUSED[what]
    path = edited(V1, tmp_path, change)
    with pytest.raises(WeightsError, match=words) as caught:
        forebear.load(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: this ONNX graph of mxnet is no network of forebear: ")
    assert said.endswith("Run other graphs with ONNX Runtime.")
    assert "Expected a ResNet, a ResNeXt (residual units" in said
    assert said.isprintable()


def test_a_norm_that_starts_elsewhere_is_refused(tmp_path: Path) -> None:
    """In version 2, an identity shortcut starts from the unit's input."""

    def change(graph: Editor) -> None:
        graph.change("Add", 1, inputs=("t24", "t17"))

    path = edited(V2, tmp_path, change)
    with pytest.raises(WeightsError, match="a shortcut that starts elsewhere"):
        forebear.load(path)


def caffes_root(graph: Editor) -> None:
    """A pool as Caffe's: its windows begin at pixel 0, and the last one reaches over the edge."""
    graph.change("MaxPool", attributes={"pads": (0, 0, 0, 0), "ceil_mode": 1})
    graph.inputs = (replace(graph.inputs[0], dims=(0, 3, 64, 64)), *graph.inputs[1:])


def test_a_known_dialect_of_the_same_function_is_taken(tmp_path: Path) -> None:
    network = forebear.load(edited(V1, tmp_path, caffes_root))
    assert (network.dialect.pool_padding, network.dialect.strided_conv) == ("same", "conv1")
    assert replace(network.dialect, shortcut="widen", name="") == replace(
        DIALECTS["paper-v1"], name="", init=network.dialect.init
    )


def test_what_cannot_be_named_is_no_network_of_forebear(tmp_path: Path) -> None:
    """ResNet-C and ResNet-D begin with three convolutions, for which no library has names."""

    def change(graph: Editor) -> None:
        graph.arrays["k"] = np.ones((3, 3, 3, 3), np.float32)
        graph.insert("data", "Conv", "k", pads=(1, 1, 1, 1))
        graph.insert("data.Conv", "Relu")

    with pytest.raises(WeightsError, match=r"its root has 3 layers \(a ResNet-C or a ResNet-D"):
        forebear.load(edited(V1, tmp_path, change))


@pytest.mark.long
def test_long_chains_and_circles_of_nodes_end(tmp_path: Path) -> None:
    graph = Editor(GOLDENS / f"{V1}.onnx")
    chain = [Node("Identity", "", (f"c{n}",), (f"c{n + 1}",), {}) for n in range(50_000)]
    circle = [
        Node("Identity", "", ("d0",), ("d1",), {}),
        Node("Identity", "", ("d1",), ("d0",), {}),
    ]
    graph.nodes += [*chain[::-1], *circle, Node("Relu", "", ("c50000", "d0"), ("e",), {})]
    start = time.process_time()
    assert apart(graph.write(tmp_path / "m.onnx"), V1) < TOLERANCE
    assert time.process_time() - start < 20
