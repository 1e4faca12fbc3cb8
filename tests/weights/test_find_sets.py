"""The network is found under any prefix, and what looks like another network is not taken."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import forebear
from forebear import WeightsError
from forebear.weights.find_sets import plain_names
from tests.weights.forms import NETWORK, body, head, is_ours, saved, state, under
from tests.weights.making import given, small

OPTIMIZER = {
    "state": {0: {"exp_avg": torch.ones(5, 64)}, 1: {"exp_avg": torch.ones(5)}},
    "param_groups": [{"lr": 0.1, "params": [0, 1]}],
}
WHOLE: dict[str, Any] = {
    "torch.compile": under("_orig_mod.", state()),
    "compiled and parallel": under("module._orig_mod.", state()),
    "in net, parallel": {"net": under("module.", state()), "acc": 91.2, "epoch": 3},
    "in model_state_dict": {"model_state_dict": state(), "optimizer_state_dict": OPTIMIZER},
    "in three dicts": {"a": {"b": {"c": under("some.thing.", state())}}},
    "in a list": {"models": [state()], "n": [1, 2]},
    "Lightning": {
        "state_dict": {**under("model.", state()), "train_acc.confmat": torch.zeros(5, 5)},
        "hyper_parameters": {"lr": 0.1},
        "callbacks": {},
        "optimizer_states": [OPTIMIZER],
    },
    "with arguments": {"state_dict": state(), "args": argparse.Namespace(lr=0.1)},
    "body and head": {"state_dict": under("backbone.", body()) | head("head.fc")},
    "encoder and head": under("encoder.", body()) | head("fc"),
    "head in a Sequential": body() | head("linear.1"),
    "body and head in two dicts": {"backbone": body(), "head": head("fc"), "optim": OPTIMIZER},
    "parallel inside": {name.replace("r2.", "r2.module."): one for name, one in state().items()},
    "averaged alone": {"n_averaged": torch.tensor(3), **under("module.", state())},
    "parameters": {name: torch.nn.Parameter(one, False) for name, one in state().items()},
}


@pytest.mark.parametrize("form", WHOLE)
@pytest.mark.long(after=5)
def test_a_network_is_found_in_whatever_is_around_it(form: str, tmp_path: Path) -> None:
    path = saved(tmp_path, WHOLE[form])
    found = forebear.load(path)
    assert found.table.name == "resnet20"
    assert is_ours(found)
    assert is_ours(forebear.load("paper/resnet20", weights=path))


@pytest.mark.parametrize("prefix", ["", "module.", "any.thing."])
def test_prefixes_are_found_in_every_format_and_in_a_dict(prefix: str, tmp_path: Path) -> None:
    tensors = under(prefix, state())
    save_file(tensors, tmp_path / "a.safetensors")
    arrays: dict[str, Any] = {name: one.numpy() for name, one in tensors.items()}
    np.savez(tmp_path / "a.npz", **arrays)
    for path in (tmp_path / "a.safetensors", tmp_path / "a.npz"):
        assert is_ours(forebear.load(path))
    empty = forebear.create("paper/resnet20", num_classes=5)
    forebear.load_arrays(empty, tensors)
    assert is_ours(empty)


def test_a_file_without_head_gives_features(tmp_path: Path) -> None:
    found = forebear.load(saved(tmp_path, {"state_dict": under("backbone.", body())}))
    assert found.plan.num_classes is None


@pytest.mark.parametrize(
    ("others", "named"),
    [
        (
            {
                "fc.0.weight": torch.ones(32, 64),
                "fc.0.bias": torch.ones(32),
                "fc.2.weight": torch.ones(5, 32),
                "fc.2.bias": torch.ones(5),
            },
            "fc.0.weight, fc.2.weight",
        ),
        (head("fc.1") | {"fc.0.running_mean": torch.ones(64)}, "fc.0.running_mean, fc.1.weight"),
        (head("one") | head("two"), "one.weight, two.weight"),
        ({"fc.weight": torch.ones(5, 64)}, "fc.weight"),
        (
            head("linear") | {"cls.weight": torch.ones(3, 5), "cls.bias": torch.ones(3)},
            "cls.weight, linear.weight",
        ),
        ({"decoder.0.weight": torch.ones(32, 64, 3, 3)}, "decoder.0.weight"),
    ],
    ids=["two layers", "norm", "two heads", "no bias", "after the head", "decoder"],
)
def test_a_head_that_is_not_one_layer_is_refused_by_name(
    others: dict[str, torch.Tensor], named: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, body() | others)
    for words in ({"what": path}, {"what": "paper/resnet20", "weights": path}):
        with pytest.raises(WeightsError, match="its head is not one linear layer") as caught:
            forebear.load(**words)
        assert f"it has {named}." in str(caught.value)
        assert "takes the 64 features of resnet20" in str(caught.value)
        assert str(path) in str(caught.value)
    assert forebear.load(path, which="body").plan.num_classes is None


@pytest.mark.parametrize(
    "name", ["layer3.3.conv1.weight", "layer1.0.se.fc1.weight", "conv9.weight", "bn2.weight"]
)
def test_a_larger_network_is_not_taken_for_a_smaller_one(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path, {"model": state() | {name: torch.ones(4, 4)}})
    with pytest.raises(WeightsError, match="match none of the"):
        forebear.load(path)
    with pytest.raises(WeightsError, match="1 unexpected"):
        forebear.load("paper/resnet20", weights=path)


def test_optimizers_of_tensorflow_are_told_from_weights() -> None:
    net = small()
    arrays = given(net)
    wanted = dict(arrays)
    for name in wanted:
        for slot in ("Momentum", "Adam", "Adam_1", "RMSProp", "ExponentialMovingAverage"):
            arrays[f"{name}/{slot}"] = wanted[name] + 1
    arrays |= {name: np.float32(0.9) for name in ("beta1_power", "beta2_power")}
    arrays["global_step"] = np.int64(3)
    forebear.load_arrays(net, arrays)
    kernel = net.state_dict()["root.conv1.conv.weight"].numpy()
    theirs = wanted["net/conv1/weights"].transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(kernel, theirs)
    forebear.load_arrays(net, arrays, which="ema")
    np.testing.assert_array_equal(net.state_dict()["root.conv1.conv.weight"].numpy(), theirs + 1)
    only = {f"{name}/ExponentialMovingAverage": array for name, array in wanted.items()}
    forebear.load_arrays(net, only)


def test_a_variable_without_average_keeps_its_value() -> None:
    net = small()
    arrays = given(net)
    name = "net/conv1/weights"
    arrays[f"{name}/ExponentialMovingAverage"] = arrays[name] + 1
    forebear.load_arrays(net, arrays, which="ema")
    mean = net.state_dict()["root.conv1.norm.running_mean"].numpy()
    np.testing.assert_array_equal(mean, arrays["net/conv1/BatchNorm/moving_mean"])


def test_keras_names_its_last_layer_as_the_user_does() -> None:
    blocks = (forebear.Block("block1", 1, 4, 16),)
    root = (forebear.Conv("conv1", 8, 7, 2), forebear.Pool("pool1"))
    net = forebear.create(forebear.Table("net", root, blocks=blocks), dialect="keras-v1")
    net = forebear.create(net.table, dialect="keras-v1", num_classes=5)
    arrays = given(net)
    for name in ("kernel", "bias"):
        arrays[f"my_head/{name}"] = arrays.pop(f"predictions/{name}")
    forebear.load_arrays(net, {f"resnet50/{name}:0": array for name, array in arrays.items()})
    np.testing.assert_array_equal(
        net.state_dict()["logits.weight"].numpy(), arrays["my_head/kernel"].T
    )
    with pytest.raises(WeightsError, match=r"it has dense/kernel, my_head/kernel\."):
        forebear.load_arrays(
            net,
            arrays | {"dense/kernel": np.ones((5, 3), "f4"), "dense/bias": np.ones(3, "f4")},
        )


def test_plain_names_lose_wrappers_and_slots_only() -> None:
    names = ["module.a.b", "a/b", "a/b/Momentum", "c:0", "_orig_mod.module.d.e", "module.x", "x"]
    assert plain_names(names) == {
        "a.b": "module.a.b",
        "a/b": "a/b",
        "c": "c:0",
        "d.e": "_orig_mod.module.d.e",
        "module.x": "module.x",
        "x": "x",
    }


def test_channels_and_classes_come_from_the_shapes(tmp_path: Path) -> None:
    net = forebear.create("paper/resnet20", num_classes=7, in_channels=5)
    found = forebear.load(saved(tmp_path, {"net": under("module.", state(net))}))
    assert (found.plan.num_classes, found.plan.in_channels) == (7, 5)
    named = forebear.load("paper/resnet20", weights=tmp_path / "a.pth")
    assert (named.plan.num_classes, named.plan.in_channels) == (7, 5)
    assert NETWORK.plan.in_channels == 3


def test_a_partial_load_keeps_what_fits_of_a_network_with_another_head(tmp_path: Path) -> None:
    layers = {"fc.0.weight": torch.ones(9, 64), "fc.0.bias": torch.ones(9)}
    layers |= {"fc.2.weight": torch.ones(5, 9), "fc.2.bias": torch.ones(5)}
    path = saved(tmp_path, {"net": under("module.", body() | layers)})
    found = forebear.load("paper/resnet20", weights=path, partial=True, num_classes=3)
    name = "block3.unit_3.conv2.conv.weight"
    assert torch.equal(found.state_dict()[name], NETWORK.state_dict()[name])
