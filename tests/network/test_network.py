from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import forebear
from forebear import Block, Table
from tests.network.making import ROOT, SMALL_ROOT, make, table

IMAGES = torch.randn(2, 3, 65, 48, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dialect", ["slim-v1", "keras-v1", "keras-v2", "torchvision", "timm-v2"])
@pytest.mark.long(after=2)
def test_the_pyramid_stands_in_the_same_places_in_every_dialect(dialect: str) -> None:
    net = make("torchvision/resnet50", dialect=dialect, num_classes=None)
    with torch.inference_mode():
        maps = net.pyramid(IMAGES)
    assert {stride: tuple(m.shape[1:]) for stride, m in maps.items()} == {
        4: (256, 17, 12),
        8: (512, 9, 6),
        16: (1024, 5, 3),
        32: (2048, 3, 2),
    }


def test_slims_stride_4_map_is_the_unit_before_the_stride() -> None:
    net = make("slim/resnet_v1_50", num_classes=None)
    found = net.end_points(IMAGES, ["block1.unit_2"])["block1.unit_2"]
    assert torch.equal(net.pyramid(IMAGES)[4], found)


def test_features_come_without_classes_and_maps_without_pool() -> None:
    assert make(num_classes=None)(IMAGES).shape == (2, 128)
    assert make(num_classes=None, global_pool=False)(IMAGES).shape == (2, 128, 2, 1)
    assert make(num_classes=5, include_root=False, in_channels=4)(
        torch.randn(1, 4, 24, 24)
    ).shape == (1, 5)


def test_one_module_called_twice_shares_its_weights() -> None:
    net = make(num_classes=7).train()
    (net(IMAGES).sum() + net(IMAGES.flip(3)).sum()).backward()
    twice = net.get_parameter("root.conv1.conv.weight").grad
    other = make(num_classes=7).train()
    other(IMAGES).sum().backward()
    once = other.get_parameter("root.conv1.conv.weight").grad
    assert twice is not None
    assert once is not None
    assert not torch.equal(twice, once)
    assert len(dict(net.named_parameters())) == len(dict(other.named_parameters()))


@pytest.mark.parametrize("dialect", ["slim-v1", "keras-v2", "keras-lists", "paper-cifar"])
def test_copies_pickles_and_formats_give_the_same_logits(dialect: str) -> None:
    net = make(table(root=SMALL_ROOT), dialect, num_classes=7)
    with torch.inference_mode():
        expected = net(IMAGES)
        assert torch.equal(copy.deepcopy(net)(IMAGES), expected)
        again = pickle.Unpickler(io.BytesIO(pickle.dumps(net))).load()  # our own bytes
        assert torch.equal(again(IMAGES), expected)
        other = make(table(root=SMALL_ROOT), dialect, num_classes=7)
        other.load_state_dict(net.state_dict())
        last = other.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        torch.testing.assert_close(last(IMAGES), expected, rtol=1e-4, atol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            half = net(IMAGES)
    assert half.dtype == torch.bfloat16
    assert (half.float() - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch warns of its own parts while it compiles
@pytest.mark.parametrize("dialect", ["slim-v1", "keras-v2", "keras-lists", "paper-v1-a"])
def test_compiled_and_exported_networks_give_the_same_logits(dialect: str) -> None:
    blocks = tuple(Block(f"block{n}", 2, 4 * n, 16 * n, min(n, 2)) for n in (1, 2, 3, 4))
    net = make(Table("net", ROOT, blocks=blocks), dialect, num_classes=7)
    expected = net(IMAGES)
    torch.testing.assert_close(torch.compile(net)(IMAGES), expected, rtol=1e-4, atol=1e-4)
    free = {
        0: torch.export.Dim("batch", min=1, max=512),
        2: torch.export.Dim("height", min=64, max=4096),
        3: torch.export.Dim("width", min=64, max=4096),
    }
    exported = torch.export.export(net, (torch.randn(2, 3, 97, 130),), dynamic_shapes=(free,))
    for shape in ((2, 3, 65, 148), (3, 3, 96, 101), (1, 3, 150, 180)):
        images = torch.randn(shape)
        found = exported.module()(images)
        torch.testing.assert_close(found, net(images), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_distributed_network_gives_the_same_gradients(tmp_path: Path) -> None:
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    def gradient(parallel: bool) -> Tensor:
        net = make(num_classes=7).train()
        run = DistributedDataParallel(net) if parallel else net
        run(IMAGES).square().mean().backward()
        found = net.get_parameter("block1.unit_1.conv2.conv.weight").grad
        assert found is not None
        return found

    file = (tmp_path / "meet").as_uri()
    distributed.init_process_group("gloo", init_method=file, rank=0, world_size=1)
    try:
        torch.testing.assert_close(gradient(True), gradient(False))
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(3, 64, 64), ValueError, r"shape \[3, 64, 64\].*images\[None\]"),
        (torch.zeros(1, 64, 64, 3), ValueError, r"permute\(0, 3, 1, 2\)"),
        (torch.zeros(1, 4, 64, 64), ValueError, r"expects \[N, 3, H, W\].*in_channels"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), TypeError, "uint8: expected floats"),
        ([[1.0]], TypeError, "type list: expected a tensor"),
        (torch.zeros(1, 3, 100, 300), ValueError, "100x300 pixels.*at least 195x195"),
    ],
)
def test_wrong_images_are_refused_with_the_remedy(
    images: Any, error: type[Exception], message: str
) -> None:
    with torch.device("meta"):
        net = forebear.create("slim/alexnet_v2")
    with pytest.raises(error, match=message):
        net(images)
