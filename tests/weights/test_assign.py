from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import forebear
from forebear.network.plan.layer_names import original_end_points
from forebear.weights.variable_names import pairs
from tests.goldens import cases, recipe

SHARED = Path(__file__).parents[3] / "shared"
MANIFESTS = SHARED / "goldens" / "manifests"
NAMES = {
    "slim": "slim",
    "keras": "keras",
    "kerasapps": "keras",
    "torchvision": "torchvision",
    "timm": "timm",
    "cifar": "paper",
}


def small(dialect: str = "slim-v1") -> forebear.Network:
    blocks = (forebear.Block("block1", 1, 4, 16), forebear.Block("block2", 2, 4, 16, 2))
    root = (forebear.Conv("conv1", 8, 3, 2), forebear.Pool("pool1"))
    return forebear.create(forebear.Table("net", root, blocks=blocks), dialect=dialect)


def given(net: forebear.Network) -> dict[str, Any]:
    return {pair.theirs: recipe.weights(pair.theirs, pair.their_shape) for pair in pairs(net.plan)}


@pytest.mark.skipif(not MANIFESTS.is_dir(), reason="the manifests lie beside the repository")
@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.json")), ids=lambda path: path.stem)
def test_names_and_shapes_are_exactly_the_originals(path: Path) -> None:
    home, _, name = path.stem.partition("_")
    dialect = None
    if name.endswith("_optionB"):
        name, dialect = name.removesuffix("_optionB"), "paper-cifar-b"
    name = {"old_ResNet50": "ResNet50_old"}.get(name, name)
    with torch.device("meta"):
        net = forebear.create(f"{NAMES[home]}/{name}", dialect=dialect)
    theirs = {
        variable["name"].replace("probs/", "predictions/"): variable["shape"]
        for variable in json.loads(path.read_text())["variables"]
        if "_2_gconv" not in variable["name"]
    }
    assert {pair.theirs: list(pair.their_shape) for pair in pairs(net.plan)} == theirs


def test_resnet_v1_50_has_the_267_names_of_tf_slim() -> None:
    with torch.device("meta"):
        net = forebear.create("slim/resnet_v1_50")
    names = [pair.theirs for pair in pairs(net.plan)]
    assert len(set(names)) == len(names) == 267
    assert names[0] == "resnet_v1_50/conv1/weights"
    assert "resnet_v1_50/block4/unit_3/bottleneck_v1/conv3/BatchNorm/moving_variance" in names
    assert names[-1] == "resnet_v1_50/logits/biases"


def test_original_end_points_are_tf_slims_75_and_two_pools() -> None:
    with torch.device("meta"):
        net = forebear.create("slim/resnet_v1_50")
    ends = original_end_points(net.plan)
    assert len(ends) == 75 + 2
    assert ends["resnet_v1_50/block3/unit_2/bottleneck_v1/conv2"] == "block3.unit_2.conv2"
    assert ends["predictions"] == "predictions"


def test_missing_unexpected_and_wrong_arrays_are_all_named_and_nothing_changes() -> None:
    net = small()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    arrays = given(net)
    arrays["net/block1/unit_1/bottleneck_v1/conv9/weights"] = np.zeros(3)
    del arrays["net/block1/unit_1/bottleneck_v1/conv1/weights"]
    arrays["net/logits/biases"] = np.zeros(9, np.float32)
    with pytest.raises(forebear.WeightsError) as caught:
        forebear.load_arrays(net, arrays)
    message = str(caught.value)
    assert "1 missing, 1 unexpected, 1 of the wrong shape" in message
    assert "missing: net/block1/unit_1/bottleneck_v1/conv1/weights Did you mean" in message
    assert "unexpected: net/block1/unit_1/bottleneck_v1/conv9/weights" in message
    assert "net/logits/biases [9], expected [1000]" in message
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_what_slim_and_tensorflow_write_beside_the_weights_is_accepted() -> None:
    net = small()
    arrays = {f"{name}:0": array for name, array in given(net).items()}
    arrays |= {"global_step": np.int64(7), "net/mean_rgb": np.zeros(3, np.float32)}
    forebear.load_arrays(net, arrays)
    kernel = given(net)["net/conv1/weights"].transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(net.state_dict()["root.conv1.conv.weight"].numpy(), kernel)


@pytest.mark.parametrize("dialect", ["slim-v2", "keras-v1", "keras-old", "torchvision", "timm-v2"])
def test_stored_layouts_give_back_what_was_loaded(dialect: str) -> None:
    net = small(dialect)
    arrays = given(net)
    forebear.load_arrays(net, arrays)
    state = net.state_dict()
    for pair in pairs(net.plan):
        stored = pair.layout.store(state[pair.ours].numpy())
        np.testing.assert_array_equal(stored, arrays[pair.theirs])


def test_a_frozen_kernel_that_is_not_the_group_sum_is_refused() -> None:
    block = forebear.Block("block1", 1, 8, 16, groups=2)
    net = forebear.create(
        forebear.Table("net", (forebear.Conv("conv1", 8, 3),), blocks=(block,)),
        dialect="keras-resnext",
    )
    kernel = np.zeros((1, 1, 32, 8), np.float32)
    for out in range(8):
        group, m = divmod(out, 4)
        for i in range(4):
            kernel[0, 0, (group * 4 + i) * 4 + m, out] = 1
    forebear.load_arrays(net, given(net) | {"conv2_block1_2_gconv/kernel": kernel})
    kernel[0, 0, 0, 1] = 1
    with pytest.raises(forebear.WeightsError, match="unexpected: conv2_block1_2_gconv/kernel"):
        forebear.load_arrays(net, given(net) | {"conv2_block1_2_gconv/kernel": kernel})


PUBLISHED = SHARED / "data" / "checkpoints" / "resnet20-12fca82f.th"


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published file lies beside the repository")
def test_the_published_resnet20_gets_932_of_1017_right() -> None:
    net = forebear.create("paper/resnet20").eval()
    state = torch.load(PUBLISHED, map_location="cpu", weights_only=True)["state_dict"]
    forebear.load_arrays(net, state)
    with np.load(cases.SHARED / "cifar_published_weights.npz") as published:
        images = torch.from_numpy(published["input"]).permute(0, 3, 1, 2)
        expected = published["logits::resnet20-12fca82f.th"]
    with torch.inference_mode():
        assert np.abs(net(images).numpy() - expected).max() < 1e-4
        with np.load(SHARED / "data" / "cifar10_exact_subset.npz") as subset:
            pixels, labels = torch.from_numpy(subset["x_test"]), subset["y_test"]
        rule = net.preprocessing
        values = (pixels * rule.scale - torch.tensor(rule.mean)) / torch.tensor(rule.std)
        named = net(values.permute(0, 3, 1, 2)).argmax(1).numpy()
    assert (int((named == labels).sum()), len(labels)) == (932, 1017)
