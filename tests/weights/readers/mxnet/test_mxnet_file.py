"""MXNet's networks are read by their symbols, with the logits that MXNet 1.9.1 gave."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import forebear
from forebear import WeightsError
from forebear.tables.dialects import TORCHVISION_V1
from forebear.weights.readers.detect import open_arrays
from forebear.weights.readers.mxnet.mxnet_file import MxnetArrays, symbol_of
from forebear.weights.readers.mxnet.ndarrays import read_arrays
from tests.weights.mxnet_making import GOLDENS, golden, params, put
from tests.weights.readers.making import damaged, refusal

ARRAYS, SYMBOL = golden("v1_bottleneck")
LARGEST = 1e-6  # of a difference of logits, as a share of the largest logit


def expected(name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    with np.load(GOLDENS / "expected.npz") as found:
        return found[f"{name}.images"], found[f"{name}.logits"]


def assert_gives(path: Path, images: NDArray[Any], logits: NDArray[Any]) -> forebear.Network:
    network = forebear.load(path)
    with torch.inference_mode():
        found = network(torch.from_numpy(images)).numpy()
    assert np.abs(found - logits).max() < LARGEST * np.abs(logits).max()
    return network


def fed(images: NDArray[Any], network: forebear.Network) -> NDArray[Any]:
    """MXNet's input as the network takes it: the norm of the image is in the preprocessing."""
    usual, rule = TORCHVISION_V1.preprocessing, network.preprocessing
    first, scale, mean, std = (
        np.array(one, np.float32).reshape(3, 1, 1)
        for one in (usual.mean, usual.std, rule.mean, rule.std)
    )
    given: NDArray[Any] = ((images * scale + first) - mean) / std
    return given


@pytest.mark.parametrize("name", ["v1_basic", "v1_bottleneck"])
def test_version_1_gives_the_logits_of_mxnet(name: str) -> None:
    network = assert_gives(GOLDENS / f"{name}-0000.params", *expected(name))
    assert [block.units for block in network.table.blocks] == [1, 2]
    assert network.dialect.strided_conv == ("conv2" if name == "v1_basic" else "conv1")
    assert network.card.provenance["notes"].startswith("read from an MXNet file: ")


@pytest.mark.parametrize("name", ["v2_basic", "v2_bottleneck"])
def test_version_2_gives_the_logits_of_mxnet(name: str) -> None:
    """Its first norm, of the image, becomes a part of the preprocessing."""
    images, logits = expected(name)
    network = forebear.load(GOLDENS / f"{name}-0000.params")
    assert network.preprocessing.mean != TORCHVISION_V1.preprocessing.mean
    assert_gives(GOLDENS / f"{name}-0000.params", fed(images, network), logits)
    assert network.dialect.order == "pre"


@pytest.mark.parametrize("name", ["v1_basic", "v1_bottleneck", "v2_basic", "v2_bottleneck"])
def test_parameters_of_gluon_need_no_symbol(name: str) -> None:
    path = GOLDENS / f"gluon_{name}.params"
    network, (images, logits) = forebear.load(path), expected(name)
    given = fed(images, network) if name.startswith("v2") else images
    assert_gives(path, given, logits)
    assert "this file has no graph: it is read as the ResNet of" in network.card.provenance["notes"]


def renamed(change: Callable[[str], str]) -> bytes:
    data = memoryview((GOLDENS / "gluon_v1_basic.params").read_bytes())
    return params({change(name): one.values(GOLDENS) for name, one in read_arrays(data).items()})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda name: name.replace("output", "fc"), "whose graph is in another file"),
        (lambda name: name.replace("features.4", "stage"), "model zoo has stage.0.body.0.weight"),
        (lambda name: name.replace("body.3.weight", "body.9.weight"), "model zoo has features.4.0"),
        (lambda name: name.replace("features.1.running_var", "x"), "has no running mean"),
    ],
)
def test_other_parameters_of_gluon_are_refused(
    change: Callable[[str], str], why: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.params"
    path.write_bytes(renamed(change))
    with pytest.raises(WeightsError, match=why):
        forebear.load(path)


@pytest.mark.parametrize("version", [0, 1, 3])
def test_older_files_have_the_same_function(version: int, tmp_path: Path) -> None:
    assert_gives(put(tmp_path, params(ARRAYS, version), SYMBOL), *expected("v1_bottleneck"))


def edited(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The symbol after a change of each node."""
    symbol = copy.deepcopy(SYMBOL)
    for node in symbol["nodes"]:
        change(node)
    return symbol


def old_form(node: dict[str, Any]) -> None:
    """As before 0.9: other keys, links without a version, statistics that are no inputs."""
    node["param"] = node.pop("attrs", {})
    node["inputs"] = [link[:2] for link in node["inputs"]]
    if node["op"] == "BatchNorm":
        node["inputs"] = node["inputs"][:3]


def test_symbols_of_old_versions_are_read(tmp_path: Path) -> None:
    names = {name: name.replace("running_", "moving_").replace("aux:", "aux:") for name in ARRAYS}
    norms = {
        SYMBOL["nodes"][node["inputs"][3][0]]["name"].removesuffix("_running_mean"): node["name"]
        for node in SYMBOL["nodes"]
        if node["op"] == "BatchNorm"
    }
    arrays = {}
    for name, one in ARRAYS.items():
        stem, _, kind = names[name].partition("_moving_")
        own = norms.get(stem.removeprefix("aux:"))
        arrays[f"aux:{own}_moving_{kind}" if kind and own else name] = one
    path = put(tmp_path, params(arrays), edited(old_form))
    assert_gives(path, *expected("v1_bottleneck"))


def test_a_fixed_gamma_is_one_whatever_is_stored(tmp_path: Path) -> None:
    def fix(node: dict[str, Any]) -> None:
        if node["op"] == "BatchNorm":
            del node["attrs"]["fix_gamma"]  # the default is True

    arrays = {name: np.ones_like(one) if "gamma" in name else one for name, one in ARRAYS.items()}
    ones = forebear.load(put(tmp_path, params(arrays), SYMBOL))
    fixed = forebear.load(put(tmp_path, params(ARRAYS), edited(fix)))
    images = torch.from_numpy(expected("v1_bottleneck")[0])
    with torch.inference_mode():
        assert torch.equal(ones(images), fixed(images))


def test_a_softmax_and_its_label_are_left_out(tmp_path: Path) -> None:
    symbol = copy.deepcopy(SYMBOL)
    last = len(symbol["nodes"]) - 1
    symbol["nodes"] += [
        {"op": "null", "name": "softmax_label", "inputs": []},
        {"op": "SoftmaxOutput", "name": "softmax", "inputs": [[last, 0, 0], [last + 1, 0, 0]]},
    ]
    assert_gives(put(tmp_path, params(ARRAYS), symbol), *expected("v1_bottleneck"))


def test_a_name_without_an_epoch_has_a_symbol_too(tmp_path: Path) -> None:
    path = put(tmp_path, params(ARRAYS), SYMBOL, "net.params")
    assert symbol_of(path) == tmp_path / "net-symbol.json"
    with open_arrays(path) as arrays:
        assert isinstance(arrays, MxnetArrays)
        [root] = [name for name in arrays if arrays.shape(name) == (8, 3, 7, 7)]
        assert np.array_equal(arrays[root], ARRAYS[f"arg:{root}"])


def test_arrays_without_a_symbol_are_refused_by_name(tmp_path: Path) -> None:
    shutil.copy(GOLDENS / "v1_basic-0000.params", tmp_path / "net-0003.params")
    said = refusal(tmp_path / "net-0003.params")
    assert "this is an MXNet file of arrays, whose graph is in another file" in said
    assert "Expected net-symbol.json next to it" in said
    assert "net.export(name)" in said


def setting(op: str, **values: str) -> dict[str, Any]:
    """The symbol with other settings of an operator."""

    def change(node: dict[str, Any]) -> None:
        if node["op"] == op:
            node["attrs"] |= values

    return edited(change)


def shared(node: dict[str, Any]) -> None:
    if node["op"] == "Convolution":
        node["inputs"][1] = [1, 0, 0]


@pytest.mark.parametrize(
    ("symbol", "why"),
    [
        ("[]", "it has no list of nodes"),
        ({"nodes": [3]}, "its node 0 is no object"),
        ({"nodes": [{"op": "null", "name": "data", "inputs": []}]}, "it has no input or no output"),
        (
            {"nodes": [{"op": "Flatten", "name": "f", "inputs": [[0, 0]]}]},
            "has no inputs before it",
        ),
        ({"nodes": [{"op": "Flatten", "name": "f", "inputs": []}]}, "node f has no input"),
        (edited(shared), "takes an array of another node"),
        (setting("Convolution", kernel="(1e9,)"), r"has kernel=\(1e9,\)"),
        (setting("Convolution", layout="NHWC"), "has layout=nhwc, not NCHW"),
        (setting("Activation", act_type="tanh"), "is no network of forebear: node"),
        (setting("BatchNorm", axis="3"), "is no network of forebear: node"),
        (setting("Pooling", pool_type="sum"), "is no network of forebear: node"),
        (setting("BatchNorm", eps="nan"), "epsilon of node"),
        ("{" * 5000, "net-symbol.json: cannot be read"),
    ],
)
def test_another_symbol_is_refused_with_the_reason(symbol: Any, why: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=why):
        forebear.load(put(tmp_path, params(ARRAYS), symbol))


def test_an_array_that_is_missing_is_named(tmp_path: Path) -> None:
    arrays = {name: one for name, one in ARRAYS.items() if not name.endswith("running_var")}
    with pytest.raises(WeightsError, match="running_var"):
        forebear.load(put(tmp_path, params(arrays), SYMBOL))


@pytest.mark.long(after=1)
@pytest.mark.parametrize("which", ["params", "symbol"])
def test_damage_is_refused_or_harmless(which: str, tmp_path: Path) -> None:
    data, text = params(ARRAYS), json.dumps(SYMBOL).encode()
    for seed in range(60):
        path = put(tmp_path, damaged(data, seed) if which == "params" else data, SYMBOL)
        if which == "symbol":
            symbol_of(path).write_bytes(damaged(text, seed))
        with suppress(WeightsError):  # any other exception fails the test
            forebear.load(path)
