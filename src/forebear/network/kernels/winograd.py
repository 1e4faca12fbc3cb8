"""3x3 convolutions of stride 1 in bfloat16 with 16 multiplications in place of 36.

Winograd's F(2x2, 3x3), as Lavin and Gray (2015) use it, here for the output and both gradients.
What is multiplied are sums of four values or weights, rounded to bfloat16; so results lie up to
twice as far from the exact ones as those of torch's own convolutions in bfloat16, which round the
weights and the result: 0.4 % of a map's length in place of 0.24 %, of a weight gradient's 0.36 in
place of 0.17 %.
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
from forebear.network.kernels.native import Library, Shape, compiled, job_over, library
from forebear.network.kernels.native import Winograd as Job

CHANNELS = 32  # that the C functions take at once

_kept = threading.local()  # the work space, which grows to what the largest convolution wants


def fits(window: Window, x: Tensor, weight: Tensor) -> bool:
    """Whether `Winograd` can do the work of this convolution; then it is the faster way."""
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
    """Whether the C functions are there and this processor multiplies bfloat16 in AVX-512.

    AMX multiplies sixteen times as much in an instruction, so that oneDNN needs no help with it.
    """
    found = library()
    return isinstance(found, Library) and found.bf16 and not processor().amx


class Winograd(torch.autograd.Function):
    """The convolution of a map, for which `fits` holds; as conv.py's other ways."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, window: Window) -> Tensor:
        """Gives [N, channels, window.height, window.width] in channels_last."""
        ctx.window = window
        ctx.save_for_backward(x, weight)
        shape = (len(x), weight.shape[0], window.height, window.width)
        return _map(x, weight, shape, window.top, window.left)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gives the gradients of the input and, in float32, of the weights."""
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
    """The convolution, or the gradient of its input, of that shape."""
    weight = weight.contiguous(memory_format=torch.channels_last)
    y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    job = _job(x, shape, top, left)
    job.turned, job.weight, job.y = turned, weight.data_ptr(), y.data_ptr()
    _with_space(job)
    compiled().winograd_map(ctypes.byref(job))
    return y


def _job(x: Tensor, shape: Shape, top: int, left: int) -> Job:
    job = job_over(Job, tuple(x.shape), shape, top, left)
    job.out_channels, job.x = shape[1], x.data_ptr()
    return job


def _with_space(job: Job) -> None:
    """Gives a job its work space, which stays this thread's until a larger one is asked for."""
    size, space = _space_for(job), getattr(_kept, "space", None)
    if space is None or space.numel() < size:
        space = _kept.space = torch.empty(size, dtype=torch.uint8)
    job.space = space.data_ptr()


def _space_for(job: Job) -> int:
    return int(compiled().winograd_space(ctypes.byref(job)))
