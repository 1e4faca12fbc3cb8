"""Random tensors in channels_last, and networks in pairs: one plain, one accelerated."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import forebear
from forebear import Block, Conv, Table
from forebear.network.accelerate import accelerate
from forebear.network.kernels import native, winograd
from forebear.network.kernels.conv_geometry import Window
from forebear.network.kernels.convolution import convolve
from tests.network.making import SMALL_ROOT, table


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    found = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return found.to(memory_format=torch.channels_last) if len(shape) == 4 else found


def distance(a: Tensor, b: Tensor) -> float:
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-12))


# Wide enough for every kernel, and small enough to train in bf16 on a processor that emulates it.
NARROW = Table(
    "narrow",
    (Conv("conv1", 32, 3),),
    "basic",
    (Block("block1", 2, 32, 32), Block("block2", 2, 64, 64, stride=2)),
    classes=10,
)
NETWORKS = {
    "version 1": lambda: forebear.create(table(root=SMALL_ROOT), dialect="torchvision"),
    "version 2": lambda: forebear.create(table(root=SMALL_ROOT), dialect="slim-v2"),
    "Keras's variance": lambda: forebear.create(table(root=SMALL_ROOT), dialect="keras-v1"),
    "resnet18": lambda: forebear.create("paper/resnet18_cifar", num_classes=10),
    "groups of 4": lambda: forebear.create("torchvision/resnext50_32x4d", num_classes=10),
    "narrow resnet10": lambda: forebear.create(NARROW, dialect="torchvision"),
    "resnet20": lambda: forebear.create("paper/resnet20"),
}


def plain_network(name: str) -> forebear.Network:
    """One of NETWORKS in training mode, with the same weights at every call."""
    torch.manual_seed(0)
    plain = NETWORKS[name]()
    plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return plain.train()


def pair(name: str) -> tuple[forebear.Network, forebear.Network]:
    """A network and its accelerated twin, training."""
    plain = plain_network(name)
    fast = copy.deepcopy(plain)
    accelerate(fast)
    return plain, fast


compiles = pytest.mark.skipif(
    isinstance(native.library(), str), reason="the C functions were not built"
)
multiplies_bf16 = pytest.mark.skipif(
    not winograd.has_winograd(),
    reason="this processor has no AVX-512 for bfloat16",
)


def exactly(window: Window, x: Tensor, weight: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
    """The convolution and the gradients of its input and weights, in float64."""
    x, weight = (one.detach().double().requires_grad_() for one in (x, weight))
    step, kernel = window.stride, window.kernel
    below = (window.height - 1) * step + kernel - x.shape[2] - window.top
    right = (window.width - 1) * step + kernel - x.shape[3] - window.left
    padded = F.pad(x, (window.left, right, window.top, below))
    y = F.conv2d(padded, weight, None, step, 0, 1, window.groups)
    return (y, *torch.autograd.grad(y, (x, weight), dy.double()))


def assert_exact(window: Window, x: Tensor, weight: Tensor, dy: Tensor) -> None:
    """Holds a convolution of whole numbers and its gradients to the same in float64."""
    y = convolve(window, x, weight)
    dx, dweight = torch.autograd.grad(y, (x, weight), dy)
    exact, wanted_x, wanted_weight = exactly(window, x, weight, dy)
    assert torch.equal(y, exact.bfloat16())
    assert torch.equal(dx, wanted_x.bfloat16())
    assert torch.equal(dweight, wanted_weight.float())
