"""3x3 convolutions of stride 1 in bfloat16 with 16 multiplications instead of 36.

This is Winograd's F(2x2, 3x3) as in Lavin and Gray (2015), used for the output and both gradients.
The factors of the products are sums of up to four values or weights, rounded to bfloat16. The error
is therefore up to twice that of torch's own bfloat16 convolutions, which round the weights and the
result. The relative error (in the L2 norm) of a feature map is 0.4 % instead of 0.24 %, and that of
a weight gradient is 0.36 % instead of 0.17 %.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from forebear.hardware import processor
from forebear.network.kernels.conv_geometry import Window
from forebear.network.kernels.native import (
    Library,
    Shape,
    WinogradJob,
    compiled,
    job_over,
    library,
)

CHANNELS = 32  # the numbers of channels must be multiples of this

_kept = threading.local()  # the workspace, which grows to the size for the largest convolution


def fits(window: Window, x: Tensor, weight: Tensor) -> bool:
    """Whether `Winograd` supports this convolution. It is then the fastest implementation."""
    return (
        window.kernel == 3
        and window.stride == 1
        and window.groups == 1
        and max(window.top, window.left) <= 2
        and x.dtype == torch.bfloat16
        and weight.dtype == torch.float32
        and weight.shape[0] % CHANNELS == 0
        and weight.shape[1] % CHANNELS == 0
        and has_winograd()
    )


def has_winograd() -> bool:
    """Whether the C functions are available and this processor has AVX-512 BF16 but not AMX.

    An AMX instruction does sixteen times as many multiplications, so oneDNN is faster with it.
    """
    found = library()
    return isinstance(found, Library) and found.bf16 and not processor().amx


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
            _with_space(job)
            compiled().winograd_weight(ctypes.byref(job))
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
    _with_space(job)
    compiled().winograd_map(ctypes.byref(job))
    return y


def _job(x: Tensor, shape: Shape, top: int, left: int) -> WinogradJob:
    job = job_over(WinogradJob, tuple(x.shape), shape, top, left)
    job.out_channels, job.x = shape[1], x.data_ptr()
    return job


def _with_space(job: WinogradJob) -> None:
    """Sets the workspace of a job. Each thread keeps its workspace until it needs a larger one."""
    size, space = _space_for(job), getattr(_kept, "space", None)
    if space is None or space.numel() < size:
        space = _kept.space = torch.empty(size, dtype=torch.uint8)
    job.space = space.data_ptr()


def _space_for(job: WinogradJob) -> int:
    return int(compiled().winograd_space(ctypes.byref(job)))
