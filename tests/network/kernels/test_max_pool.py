"""Max pools give what torch gives."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from forebear.network.kernels.max_pool import fits as pool_fits
from forebear.network.kernels.max_pool import max_pool
from tests.network.kernels.making import compiles, distance, draw

# height, width, kernel, stride, padding left, right, above and below
POOLS = {
    "3x3, stride 2": (9, 7, 3, 2, (1, 1, 1, 1)),
    "padded behind": (9, 8, 3, 2, (0, 1, 0, 1)),
    "2x2": (8, 8, 2, 2, (0, 0, 0, 0)),
    "2x2, rows left over": (15, 7, 2, 2, (0, 0, 0, 0)),
    "AlexNet's": (13, 13, 3, 2, (0, 0, 0, 0)),
    "windows that overlap much": (10, 9, 5, 1, (2, 2, 2, 2)),
    "windows that leave gaps": (11, 12, 2, 3, (0, 0, 0, 0)),
}


@compiles
@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_a_pool_gives_what_torch_gives(name: str, dtype: torch.dtype) -> None:
    height, width, kernel, stride, pads = POOLS[name]
    x = draw(3, 48, height, width, dtype=dtype).relu().requires_grad_()  # many zeros are alike
    assert pool_fits(x, kernel, pads)
    y = max_pool(x, kernel, stride, pads)
    exact_x = x.detach().float().requires_grad_()
    exact = F.max_pool2d(F.pad(exact_x, pads, value=float("-inf")), kernel, stride)
    dy = draw(*y.shape, seed=1, dtype=dtype)
    (found,) = torch.autograd.grad(y, x, dy)
    (wanted,) = torch.autograd.grad(exact, exact_x, dy.float())
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(y, exact.to(dtype))
    if dtype == torch.bfloat16:
        assert torch.equal(found, wanted.bfloat16())
    else:
        assert distance(found, wanted) < 1e-6  # of several windows, in another order


@compiles
def test_a_pool_keeps_what_is_not_a_number() -> None:
    x = draw(2, 16, 4, 4)
    x[1, 5, 2, 2] = float("nan")
    y = max_pool(x.requires_grad_(), 2, 2, (0, 0, 0, 0))
    assert y.isnan().sum() == 1
    assert y[1, 5, 1, 1].isnan()


@compiles
def test_pools_that_do_not_fit_go_torchs_way() -> None:
    x, none = draw(2, 16, 4, 4).requires_grad_(), (0, 0, 0, 0)
    assert pool_fits(x, 2, none)
    assert not pool_fits(x.detach(), 2, none)  # nothing to go back through
    assert not pool_fits(x[:, :12], 2, none)
    assert not pool_fits(torch.randn(2, 16, 4, 4).requires_grad_(), 2, none)  # channels first
    assert not pool_fits(x.double(), 2, none)
    assert not pool_fits(x, 2, (2, 0, 0, 0))
    assert not pool_fits(x, 9, none)
