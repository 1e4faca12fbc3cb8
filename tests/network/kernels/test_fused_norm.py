"""A norm fused with its sum and activation gives what torch gives."""

from __future__ import annotations

import copy
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forebear.network.kernels.fused_norm import fits, normed
from forebear.network.layers import BiasedNorm
from forebear.network.plan.plan import Activation
from tests.network.kernels.making import compiles, distance, draw


def by_torch(
    norm: nn.BatchNorm2d, x: Tensor, added: Tensor | None, activation: Activation
) -> Tensor:
    y: Tensor = norm(x)
    y = y if added is None else added + y
    return {"none": y, "relu": F.relu(y), "hardswish": F.hardswish(y)}[activation]


@compiles
@pytest.mark.parametrize("kind", [nn.BatchNorm2d, BiasedNorm])
@pytest.mark.parametrize(
    ("activation", "adds"),
    [(one, adds) for one in get_args(Activation) for adds in (False, True)][:-1],  # see `fits`
)
@pytest.mark.parametrize("shape", [(4, 16, 5, 7), (2, 48, 1, 3), (3, 272, 33, 2), (5, 64, 40, 40)])
def test_a_fused_norm_gives_what_torch_gives(
    shape: tuple[int, ...], adds: bool, activation: Activation, kind: type[nn.BatchNorm2d]
) -> None:
    channels = shape[1]
    norm = kind(channels, momentum=0.2).double()
    with torch.no_grad():
        norm.weight.copy_(draw(channels, seed=3))
        norm.bias.copy_(draw(channels, seed=4))
    fused = copy.deepcopy(norm).float()
    x = (draw(*shape) * 3 + 50).requires_grad_()
    added = draw(*shape, seed=1).requires_grad_() if adds else None
    dy = draw(*shape, seed=2)
    exact_x, exact_added = (None if t is None else t.detach().double() for t in (x, added))
    inputs = [t for t in (exact_x, exact_added) if t is not None]
    assert exact_x is not None
    for each in inputs:
        each.requires_grad_()
    exact = by_torch(norm, exact_x, exact_added, activation)
    wanted = torch.autograd.grad(exact, (*inputs, norm.weight, norm.bias), dy.double())
    assert fits(fused, x, added, activation)
    y = normed(fused, x, added, activation=activation, biased=kind is BiasedNorm)
    inputs = [t for t in (x, added) if t is not None]
    found = torch.autograd.grad(y, (*inputs, fused.weight, fused.bias), dy)
    assert distance(y, exact) < 1e-5
    for ours, theirs in zip(found, wanted, strict=True):
        assert distance(ours, theirs) < 2e-5
    for name, value in norm.named_buffers():
        assert distance(fused.get_buffer(name), value) < 1e-5, name


@compiles
def test_a_fused_norm_in_bf16_rounds_once() -> None:
    norm = nn.BatchNorm2d(32)
    x, added = draw(4, 32, 9, 9, dtype=torch.bfloat16), draw(4, 32, 9, 9, seed=1).bfloat16()
    y = normed(copy.deepcopy(norm), x, added, activation="relu")
    exact = by_torch(norm.double(), x.double(), added.double(), "relu")
    assert y.dtype == torch.bfloat16
    assert distance(y, exact.bfloat16()) < 1e-9 or distance(y, exact) < 2**-8


@compiles
@pytest.mark.parametrize("threads", [1, 4])
def test_a_fused_norm_repeats_its_bits(threads: int) -> None:
    torch.set_num_threads(threads)  # whose sums must meet in the same order each time
    x, dy = draw(8, 64, 20, 20).requires_grad_(), draw(8, 64, 20, 20, seed=1)

    def run() -> tuple[Tensor, ...]:
        norm = nn.BatchNorm2d(64)
        y = normed(norm, x, activation="relu")
        return (y, *torch.autograd.grad(y, (x, norm.weight, norm.bias), dy))

    first = run()
    for _ in range(20):
        for one, other in zip(first, run(), strict=True):
            assert torch.equal(one, other)


@compiles
def test_a_fused_norm_keeps_what_is_not_a_number() -> None:
    x = draw(2, 16, 3, 3)
    x[0, 3, 1, 1] = float("nan")
    y = normed(nn.BatchNorm2d(16), x, activation="relu")
    assert y[:, 3].isnan().all()
    assert y[:, :3].isfinite().all()


@compiles
def test_maps_that_do_not_fit_go_torchs_way() -> None:
    norm, x = nn.BatchNorm2d(16), draw(2, 16, 3, 3)
    assert fits(norm, x, None, "relu")
    assert not fits(nn.BatchNorm2d(24), draw(2, 24, 3, 3), None, "relu")
    assert not fits(norm, torch.randn(2, 16, 3, 3), None, "relu")  # channels first
    assert not fits(norm, x[:1, :, :1, :1].contiguous(), None, "relu")  # one value a channel
    assert not fits(norm, x.double(), None, "relu")
    assert not fits(norm, x, x.bfloat16(), "relu")
    assert not fits(copy.deepcopy(norm).eval(), x, None, "relu")
    assert not fits(norm, x, x, "hardswish")  # its gradient needs what lies before it
    assert not fits(nn.BatchNorm2d(16, momentum=None), x, None, "relu")
