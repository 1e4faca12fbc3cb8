from __future__ import annotations

import numpy as np
import pytest
import torch

import forebear
from forebear.tasks.runs.class_maps import answers, has_maps, overlaid


@pytest.mark.parametrize("name", ["paper/resnet20", "slim/resnet_v2_50"])
def test_the_products_of_a_map_have_the_logit_as_their_mean(name: str) -> None:
    """Zhou et al. 2016, equation 2: a logit is the mean of its map, plus the bias."""
    torch.manual_seed(0)
    network = forebear.create(name, num_classes=3)
    images = torch.randn(2, network.plan.in_channels, 64, 64)
    found = answers(network.eval(), images)
    logits = network.get_submodule("logits")
    assert isinstance(logits, torch.nn.Linear)
    assert found.features is not None
    products = torch.einsum("nchw,kc->nkhw", found.features, logits.weight)
    means = products.mean((2, 3)) + logits.bias
    assert torch.allclose(means, torch.from_numpy(found.logits), atol=1e-4)
    maps = found.maps(network, tuple(found.features.shape[2:]))  # type: ignore[arg-type]
    assert maps is not None
    for at, guess in enumerate(found.logits.argmax(1)):
        expected = products[at, guess].clamp_min(0).detach().numpy()
        assert np.allclose(maps[at] * expected.max(), expected, atol=1e-5)


def test_maps_have_the_size_of_the_image_and_1_at_most() -> None:
    network = forebear.create("paper/resnet20", num_classes=3)
    maps = answers(network, torch.randn(2, 3, 32, 48)).maps(network, (32, 48))
    assert maps is not None
    assert maps.shape == (2, 32, 48)
    assert maps.min() >= 0
    assert maps.max() <= 1


@pytest.mark.long
def test_a_network_without_blocks_or_with_one_place_has_no_maps() -> None:
    alexnet = forebear.create("slim/alexnet_v2", num_classes=3)
    assert not has_maps(alexnet)
    network = forebear.create("paper/resnet20", num_classes=3)
    assert has_maps(network)
    found = answers(network, torch.randn(2, 3, 4, 4))  # the last map has a single place
    assert found.maps(network, (4, 4)) is None


def test_the_modes_of_the_network_are_the_same_afterwards() -> None:
    network = forebear.create("paper/resnet20", num_classes=3).train()
    frozen = next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    frozen.eval()
    before = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    answers(network, torch.randn(2, 3, 32, 32))
    assert [module.training for module in network.modules()] == before
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not network.get_submodule("pool")._forward_pre_hooks


def test_a_map_is_red_over_a_grey_copy() -> None:
    pixels = np.full((1, 2, 3), (0, 255, 0), np.uint8)
    over = overlaid(pixels, np.array([[0, 1]], np.float32))
    assert over[0, 0].tolist() == [150, 150, 150]
    assert over[0, 1, 0] > over[0, 1, 1] + 50
    grey = overlaid(np.full((1, 1, 1), 7, np.uint8), np.zeros((1, 1), np.float32))
    assert grey.tolist() == [[[7, 7, 7]]]
