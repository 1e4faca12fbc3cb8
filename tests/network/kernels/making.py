"""Random tensors in channels_last, and networks in pairs: one plain, one accelerated."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import forebear
from forebear import Block, Conv, Table
from forebear.network.accelerate import accelerate
from forebear.network.kernels import convolution, grouped_conv, native, winograd
from forebear.network.kernels.conv_geometry import Window
from forebear.network.kernels.measured_choice import Way
from tests.network.making import SMALL_ROOT, table


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    found = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return found.to(memory_format=torch.channels_last) if len(shape) == 4 else found


def convolve(window: Window, x: Tensor, weight: Tensor) -> Tensor:
    """Returns the convolution by forebear's own functions, which must be chosen."""
    y = convolution.convolve(window, x, weight)
    assert y is not None
    return y


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
    "dense": lambda: forebear.create(NARROW, dialect="torchvision", output_stride=1),
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


def gradients(net: forebear.Network, images: Tensor) -> dict[str, Tensor]:
    """Of the mean square of the logits, by each parameter's name; moves the running values."""
    names, values = zip(*net.named_parameters(), strict=True)
    loss = net(images).square().mean()
    found = dict(zip(names, torch.autograd.grad(loss, values), strict=True))
    return found | {name: value.clone() for name, value in net.named_buffers()}


def error(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """The length of all differences over that of all gradients."""
    apart = [torch.linalg.vector_norm(found[name].double() - exact[name]) for name in exact]
    whole = [torch.linalg.vector_norm(value.double()) for value in exact.values()]
    return float(torch.stack(apart).norm() / torch.stack(whole).norm())


compiles = pytest.mark.skipif(
    isinstance(native.library(), str), reason="the C functions were not built"
)
winograd_bf16 = pytest.mark.skipif(
    not winograd.has_winograd(),
    reason="no AVX-512 for bfloat16, or AMX, which is faster",
)
groups_bf16 = pytest.mark.skipif(
    not grouped_conv.has_groups(),
    reason="this processor has no AVX-512 for bfloat16",
)
multiplies_fp32 = pytest.mark.skipif(
    not winograd.has_winograd(torch.float32),
    reason="this processor has no AVX2",
)


@dataclass(frozen=True)
class Case:
    """A convolution in float32 of random sizes and values, and the gradient of its output."""

    window: Window
    x: Tensor
    weight: Tensor
    dy: Tensor

    def errors(self, found: tuple[Tensor, ...]) -> list[float]:
        """Returns the relative error of a map and of both gradients, in the L2 norm."""
        exact = [one.detach() for one in exactly(self.window, self.x, self.weight, self.dy)]
        norms = [one.norm().clamp_min(1e-30) for one in exact]
        return [
            float((ours.detach().double() - wanted).norm() / norm)
            for ours, wanted, norm in zip(found, exact, norms, strict=True)
        ]

    def by(self, way: Way) -> tuple[Tensor, ...]:
        """Returns the map and both gradients."""
        y = way.apply(self.x, self.weight, self.window)
        return (y, *torch.autograd.grad(y, (self.x, self.weight), self.dy))

    def by_torch(self) -> tuple[Tensor, ...]:
        """Returns the same by torch's own convolution."""
        y = by_torch(self.window, self.x, self.weight)
        return (y, *torch.autograd.grad(y, (self.x, self.weight), self.dy))


def random_case(seed: int, *, kernel: int = 3, stride: int = 1, size: int = 0) -> Case:
    """Returns a convolution of random sizes; in groups of `size` channels if that is not 0."""
    pick = random.Random(seed)
    height, width = pick.randint(kernel, 23), pick.randint(kernel, 23)
    top, left, below, right = (pick.randint(0, min(2, kernel - 1)) for _ in range(4))
    channels_in, channels = (32 * pick.randint(1, 3) for _ in range(2))
    if size:
        channels_in = channels
    down = (height + top + below - kernel) // stride + 1
    across = (width + left + right - kernel) // stride + 1
    window = Window(kernel, stride, top, left, down, across, channels // size if size else 1)
    count = pick.randint(1, 4)
    taps = (channels, channels_in // window.groups, kernel, kernel)
    return Case(
        window,
        draw(count, channels_in, height, width, seed=seed).requires_grad_(),
        (draw(*taps, seed=seed + 1) / (taps[1] * kernel**2) ** 0.5).requires_grad_(),
        draw(count, channels, down, across, seed=seed + 2),
    )


def by_torch(window: Window, x: Tensor, weight: Tensor) -> Tensor:
    """Returns torch's own convolution."""
    step, reach = window.stride, (window.kernel - 1) * window.rate
    below = (window.height - 1) * step + reach + 1 - x.shape[2] - window.top
    right = (window.width - 1) * step + reach + 1 - x.shape[3] - window.left
    padded = F.pad(x, (window.left, right, window.top, below))
    return F.conv2d(padded, weight, None, step, 0, window.rate, window.groups)


def exactly(window: Window, x: Tensor, weight: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
    """The convolution and the gradients of its input and weights, in float64."""
    x, weight = (one.detach().double().requires_grad_() for one in (x, weight))
    y = by_torch(window, x, weight)
    return (y, *torch.autograd.grad(y, (x, weight), dy.double()))


def assert_exact(window: Window, x: Tensor, weight: Tensor, dy: Tensor) -> None:
    """Holds a convolution of whole numbers and its gradients to the same in float64."""
    y = convolve(window, x, weight)
    dx, dweight = torch.autograd.grad(y, (x, weight), dy)
    exact, wanted_x, wanted_weight = exactly(window, x, weight, dy)
    assert torch.equal(y, exact.bfloat16())
    assert torch.equal(dx, wanted_x.bfloat16())
    assert torch.equal(dweight, wanted_weight.float())
