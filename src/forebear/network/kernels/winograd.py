"""3x3 convolutions of stride 1 with fewer multiplications.

This is Winograd's algorithm as in Lavin and Gray (2015), used for the output and both gradients.

- In bfloat16, F(2x2, 3x3): 16 multiplications in place of 36. The factors of the products are sums
  of up to four values or weights, rounded to bfloat16. The error is therefore up to twice that of
  torch's own bfloat16 convolutions, which round the weights and the result. The relative error (in
  the L2 norm) of a feature map is 0.4 % instead of 0.24 %, and that of a weight gradient is 0.36 %
  instead of 0.17 %.
- In float32, F(4x4, 3x3): 36 multiplications in place of 144. The relative error of a map or a
  gradient is at most 6e-6 for up to 512 channels, where torch's direct convolution has 1e-6.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from forebear.hardware import processor
from forebear.network.kernels.conv_geometry import Window
from forebear.network.kernels.native import (
    ConvFunctions,
    Library,
    Shape,
    WinogradJob,
    job_over,
    library,
)

TILES: dict[torch.dtype, int] = {torch.bfloat16: 2, torch.float32: 4}  # side of an output tile
# Tiles at the edge reach beyond the map. With more than this many values computed for each one
# that is kept, torch's own convolutions are faster.
WASTE = 2.0

_kept = threading.local()  # the workspace, which grows to the size for the largest convolution


def fits(window: Window, x: Tensor, weight: Tensor) -> bool:
    """Whether `Winograd` supports this convolution. In bfloat16 it is then the fastest way."""
    functions = _functions(x.dtype)
    return (
        functions is not None
        and window.kernel == 3
        and window.stride == 1
        and window.groups == 1
        and max(window.top, window.left) <= 2
        and weight.dtype == torch.float32
        and weight.shape[0] % functions.lanes == 0
        and weight.shape[1] % functions.lanes == 0
        and (x.dtype == torch.bfloat16 or _waste(window, TILES[x.dtype]) <= WASTE)
    )


def has_winograd(dtype: torch.dtype = torch.bfloat16) -> bool:
    """Whether there are C functions for this dtype that are faster than torch's convolutions.

    In bfloat16 they need AVX-512 BF16, and no AMX: an AMX instruction does sixteen times as many
    multiplications, so oneDNN is faster with it. In float32 they need AVX2 and FMA.
    """
    return _functions(dtype) is not None


def _functions(dtype: torch.dtype) -> ConvFunctions | None:
    found = library()
    if not isinstance(found, Library) or (dtype == torch.bfloat16 and processor().amx):
        return None
    return found.winograd.get(dtype)


def _waste(window: Window, side: int) -> float:
    """Returns how many output values the tiles have for each one of the map."""
    height, width = (-(-length // side) * side for length in (window.height, window.width))
    return height * width / (window.height * window.width)


class Winograd(torch.autograd.Function):
    """A convolution for which `fits` is true, with the arguments of `convolution.convolve`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, window: Window) -> Tensor:
        """Returns [N, channels, window.height, window.width] in channels_last."""
        ctx.window = window
        ctx.save_for_backward(x, weight)
        shape = (len(x), weight.shape[0], window.height, window.width)
        return _map(x, weight, shape, window.top, window.left)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the input gradient, and the weight gradient in float32."""
        x, weight = ctx.saved_tensors
        window = ctx.window
        dy = dy.contiguous(memory_format=torch.channels_last)
        dx = dweight = None
        if ctx.needs_input_grad[0]:
            dx = _map(dy, weight, tuple(x.shape), 2 - window.top, 2 - window.left, turned=True)
        if ctx.needs_input_grad[1]:
            dweight = torch.empty_like(weight, memory_format=torch.channels_last)
            job = _job(x, tuple(dy.shape), window.top, window.left)
            job.dy, job.dweight = dy.data_ptr(), dweight.data_ptr()
            _run(x.dtype, job, "weight")
        return dx, dweight, None


def _map(
    x: Tensor, weight: Tensor, shape: Shape, top: int, left: int, *, turned: bool = False
) -> Tensor:
    """Returns the convolution of x, or if `turned`, the input gradient for the gradient x.

    `shape` is the shape of the result. `top` and `left` are the zero padding before x.
    """
    weight = weight.contiguous(memory_format=torch.channels_last)
    y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    job = _job(x, shape, top, left)
    job.turned, job.weight, job.y = turned, weight.data_ptr(), y.data_ptr()
    _run(x.dtype, job, "map")
    return y


def _job(x: Tensor, shape: Shape, top: int, left: int) -> WinogradJob:
    job = job_over(WinogradJob, tuple(x.shape), shape, top, left)
    job.out_channels, job.x = shape[1], x.data_ptr()
    return job


def _run(dtype: torch.dtype, job: WinogradJob, name: Literal["map", "weight"]) -> None:
    """Runs a C function. Each thread keeps its workspace until it needs a larger one."""
    functions = _functions(dtype)
    assert functions is not None  # the caller has checked fits()
    size, space = int(functions.space(ctypes.byref(job))), getattr(_kept, "space", None)
    if space is None or space.numel() < size:
        space = _kept.space = torch.empty(size, dtype=torch.uint8)
    job.space = space.data_ptr()
    (functions.map if name == "map" else functions.weight)(ctypes.byref(job))
