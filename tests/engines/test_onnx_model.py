from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import forebear
from forebear.data.images.preprocess import normalise
from forebear.engines.graph_card import read_card
from forebear.errors import WeightsError
from forebear.tables.dialects import DIALECTS
from forebear.tables.preprocessing import KERAS_CAFFE, SLIM_VGG, TIMM_V2, Preprocessing
from tests.network.making import SMALL_ROOT, lively, make, table

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from forebear.engines.onnx_model import build, write_onnx
from forebear.engines.onnxruntime_engine import OnnxRuntimeEngine

GREY = replace(TIMM_V2, order="L", mean=(0.3,), std=(0.4,))


def sized(rule: Preprocessing, size: int) -> Preprocessing:
    return replace(rule, size=size, side=size)


def prepared(network: forebear.Network, rule: Preprocessing) -> forebear.Network:
    network.card = replace(network.card, preprocessing=rule, classes=())
    return network


def pixels(rule: Preprocessing, count: int = 3) -> np.ndarray[Any, Any]:
    draws = np.random.default_rng(0)
    return draws.integers(0, 256, (count, *rule.shape, rule.channels)).astype(np.uint8)


def expected(network: forebear.Network, given: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    rows = [normalise(one, network.preprocessing) for one in given]
    with torch.inference_mode():
        found: np.ndarray[Any, Any] = network(torch.from_numpy(np.stack(rows))).numpy()
    return found


def distance(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> float:
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def check(network: forebear.Network, path: Path, **options: Any) -> None:
    """The graph's output is the network's, for batches of another size too."""
    write_onnx(network, path, **options)
    given = pixels(network.preprocessing)
    wanted = expected(network, given)
    engine = OnnxRuntimeEngine(path, threads=1)
    assert distance(engine(given), wanted) < 4e-6
    assert distance(engine(given[:1]), wanted[:1]) < 4e-6
    assert distance(engine(given[::-1]), wanted) > 1e-3  # the figure can be large


@pytest.mark.parametrize("size", [64, 65, 71])
@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.long(after=7)
def test_every_dialect_gives_equal_logits(dialect: str, size: int, tmp_path: Path) -> None:
    network = make(table(), dialect, num_classes=7)
    check(prepared(network, sized(network.preprocessing, size)), tmp_path / "m.onnx")


@pytest.mark.parametrize("width", [64, 71, 97])
@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.long(after=7)
def test_the_input_can_be_a_rectangle(dialect: str, width: int, tmp_path: Path) -> None:
    """SAME padding differs between 65 rows and 64 or 71 columns."""
    network = make(table(), dialect, num_classes=7)
    rule = replace(sized(network.preprocessing, 65), width=width)
    check(prepared(network, rule), tmp_path / "m.onnx")


@pytest.mark.parametrize("form", ["basic", "bottleneck"])
@pytest.mark.parametrize("dialect", ["slim-v1", "slim-v2", "torchvision"])
@pytest.mark.parametrize("stride", [1, 2, 6, 12])
@pytest.mark.long(after=5)
def test_dense_networks_and_maps(form: Any, stride: int, dialect: str, tmp_path: Path) -> None:
    network = make(
        table(form, SMALL_ROOT), dialect, num_classes=5, output_stride=stride, global_pool=False
    )
    check(prepared(network, sized(SLIM_VGG, 61)), tmp_path / "m.onnx")


@pytest.mark.parametrize("rule", [KERAS_CAFFE, TIMM_V2, SLIM_VGG, GREY], ids=lambda r: r.order)
def test_every_preprocessing_is_inside(rule: Preprocessing, tmp_path: Path) -> None:
    network = make(table(), "torchvision", num_classes=4, in_channels=rule.channels)
    check(prepared(network, sized(rule, 64)), tmp_path / "m.onnx")
    network = make(
        table("basic"), "timm", num_classes=4, in_channels=rule.channels, include_root=True
    )
    check(prepared(network, sized(rule, 64)), tmp_path / "n.onnx", lowered=False)


@pytest.mark.parametrize("name", ["paper/resnet20", "paper/resnet18_c", "paper/plain18"])
def test_networks_of_the_papers(name: str, tmp_path: Path) -> None:
    network = lively(forebear.create(name))
    check(prepared(network, sized(network.preprocessing, 32)), tmp_path / "m.onnx")


@pytest.mark.slow
def test_alexnet_with_its_adaptive_pool(tmp_path: Path) -> None:
    network = lively(forebear.create("torchvision/alexnet", num_classes=3))
    check(prepared(network, sized(network.preprocessing, 224)), tmp_path / "m.onnx")
    with pytest.raises(WeightsError, match="cannot be written for this input size"):
        write_onnx(network, tmp_path / "n.onnx", any_size=True)


@pytest.mark.parametrize("dialect", ["slim-v1", "slim-v2", "torchvision", "keras-v2"])
def test_any_size(dialect: str, tmp_path: Path) -> None:
    plain = replace(table(), blocks=tuple(replace(block, rate=1) for block in table().blocks))
    network = prepared(make(plain, dialect, num_classes=4), sized(SLIM_VGG, 64))
    write_onnx(network, tmp_path / "m.onnx", any_size=True)
    engine = OnnxRuntimeEngine(tmp_path / "m.onnx", threads=1)
    for size in (64, 65, 70, 75):
        given = pixels(sized(SLIM_VGG, size))
        assert distance(engine(given), expected(network, given)) < 4e-6


def test_the_usual_input_is_floats_after_the_preprocessing(tmp_path: Path) -> None:
    network = prepared(make(table(), "torchvision", num_classes=4), sized(TIMM_V2, 64))
    card = write_onnx(network, tmp_path / "m.onnx", pixels=False)
    assert (card.takes, card.dtype) == ("images", "float32")
    given = pixels(network.preprocessing)
    engine = OnnxRuntimeEngine(tmp_path / "m.onnx", threads=1)
    assert distance(engine(given), expected(network, given)) < 4e-6


def test_the_card_says_what_the_graph_is(tmp_path: Path) -> None:
    network = prepared(make(table(), "torchvision", num_classes=2), sized(KERAS_CAFFE, 64))
    network.card = replace(network.card, classes=("cat", "dög"), provenance={"sha256": "ab"})
    written = write_onnx(network, tmp_path / "m.onnx")
    assert read_card(tmp_path / "m.onnx") == written
    assert written.classes == ("cat", "dög")
    assert written.preprocessing == network.preprocessing
    assert written.network == "small"
    assert written.provenance == {"sha256": "ab"}


def test_nodes_and_arrays_have_the_networks_names() -> None:
    network = prepared(make(table(), "torchvision", num_classes=2), sized(TIMM_V2, 64))
    model, _ = build(network, lowered=False)
    names = {node.name for node in model.graph.node}
    assert {"root.conv1.conv", "root.conv1.norm", "block2.unit_1.conv2", "logits"} <= names
    arrays = {array.name for array in model.graph.initializer}
    state = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    assert arrays - state == {"input.mean", "input.scale"}
    assert state - arrays == set()


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.long(after=1)
def test_dense_networks_of_any_size_are_equal_or_refused(dialect: str, tmp_path: Path) -> None:
    refusals = []
    for stride in (1, 2, 6, 12):
        network = make(table("basic", SMALL_ROOT), dialect, num_classes=5, output_stride=stride)
        prepared(network, sized(SLIM_VGG, 61))
        try:
            write_onnx(network, tmp_path / f"{stride}.onnx", any_size=True)
        except WeightsError:
            assert not (tmp_path / f"{stride}.onnx").exists()
            refusals.append(stride)
            continue
        engine = OnnxRuntimeEngine(tmp_path / f"{stride}.onnx", threads=1)
        for size in (36, 37, 41, 48):
            given = pixels(sized(SLIM_VGG, size))
            assert distance(engine(given), expected(network, given)) < 4e-6
    assert refusals == ([1, 2, 6, 12] if dialect == "keras-lists" else [])


def test_other_channels_than_the_preprocessing_are_refused(tmp_path: Path) -> None:
    network = prepared(make(table(), "torchvision", in_channels=1), sized(TIMM_V2, 64))
    with pytest.raises(WeightsError, match="takes 1 channels, but its preprocessing gives 3"):
        write_onnx(network, tmp_path / "m.onnx")
