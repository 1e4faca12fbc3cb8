from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import forebear
from tests.goldens import cases
from tests.weights.making import given, small

SHARED = Path(__file__).parents[3] / "shared"


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
    assert message.isprintable()
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_a_message_about_many_arrays_is_one_short_line() -> None:
    net = small()
    arrays = {f"\x1b[31m{number}\n": np.zeros(1) for number in range(5000)}
    with pytest.raises(forebear.WeightsError) as caught:
        forebear.load_arrays(net, arrays | given(net))
    message = str(caught.value)
    assert "5000 unexpected" in message
    assert r"'\x1b[31m0\n'" in message
    assert "and 4995 more" in message
    assert message.isprintable()
    assert len(message) < 600


def test_what_slim_and_tensorflow_write_beside_the_weights_is_accepted() -> None:
    net = small()
    arrays = {f"{name}:0": array for name, array in given(net).items()}
    arrays |= {"global_step": np.int64(7), "net/mean_rgb": np.zeros(3, np.float32)}
    forebear.load_arrays(net, arrays)
    kernel = given(net)["net/conv1/weights"].transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(net.state_dict()["root.conv1.conv.weight"].numpy(), kernel)


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
