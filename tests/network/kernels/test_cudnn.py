"""cuDNN's fused convolutions: replaced here by the sums that they stand for, and on a real GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import forebear
from forebear.network.kernels import cudnn
from forebear.network.kernels.cudnn import CudnnConv, CudnnUnit, use_cudnn
from forebear.network.network import Network
from forebear.weights.rewrite import fold_norms
from tests.network.making import lively

NAMES = ("paper/resnet20", "torchvision/resnet18", "slim/resnet_v1_50", "torchvision/resnet50")


def folded(name: str) -> Network:
    return fold_norms(lively(forebear.create(name, num_classes=5)).eval())


class Stand:
    """Stands in for cuDNN on a CPU, and counts its calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.relu = self.added = 0
        monkeypatch.setattr(torch, "cudnn_convolution_relu", self.conv_relu)
        monkeypatch.setattr(torch, "cudnn_convolution_add_relu", self.conv_add_relu)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
        monkeypatch.setattr(cudnn, "_fuses", self.fuses)

    def fuses(self, layer: Any, x: Tensor) -> bool:
        return layer.norm is None and layer.conv.bias is not None and not torch.is_grad_enabled()

    def conv_relu(self, x: Tensor, *rest: Any) -> Tensor:
        self.relu += 1
        return F.relu(F.conv2d(x, *rest))

    def conv_add_relu(
        self, x: Tensor, weight: Tensor, z: Tensor, alpha: float, *rest: Any
    ) -> Tensor:
        self.added += 1
        return F.relu(F.conv2d(x, weight, *rest) + alpha * z)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.long(after=1)
def test_every_convolution_of_a_version_1_network_is_fused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = folded(name)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        wanted = network(images)
    stand = Stand(monkeypatch)
    assert use_cudnn(network)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), wanted, rtol=1e-4, atol=1e-4)
    units = [unit for unit in network.plan.units() if unit.shortcut is not None]
    convs = [layer for layer in network.plan.layers() if layer.activation == "relu"]
    assert stand.added == len(units)
    assert stand.relu == len([layer for layer in convs if layer.kind == "conv"])


def test_gradients_and_a_cpu_run_the_code_of_the_base_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = folded("paper/resnet20")
    images = torch.randn(2, 3, 32, 32)
    wanted = network(images)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    assert use_cudnn(network)
    assert {CudnnConv, CudnnUnit} <= {type(module) for module in network.modules()}
    assert torch.equal(network(images), wanted)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), wanted)


def test_without_cudnn_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    network = folded("paper/resnet20")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert not use_cudnn(network)
    assert not any(isinstance(module, CudnnConv) for module in network.modules())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_gives_the_same_logits(name: str) -> None:
    network = folded(name).cuda().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(4, 3, 64, 64, device="cuda").to(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        wanted = network(images)
        assert use_cudnn(network)
        torch.testing.assert_close(network(images), wanted, rtol=1e-4, atol=1e-4)
