"""Max pools in training, with a backward pass that writes each gradient value once."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from forebear.network.kernels.native import Library, MaxPoolJob, Shape, compiled, job_over, library

LANES = 16  # the number of channels must be a multiple of this
KERNEL = 7  # the largest supported kernel, in pixels


def fits(x: Tensor, kernel: int, pads: tuple[int, int, int, int]) -> bool:
    """Whether `max_pool` supports these arguments. `pads` are left, right, above and below."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.bfloat16, torch.float32)
        and x.requires_grad
        and x.shape[1] % LANES == 0
        and x.is_contiguous(memory_format=torch.channels_last)
        and max(pads) < kernel <= KERNEL
        and isinstance(library(), Library)
    )


def max_pool(x: Tensor, kernel: int, stride: int, pads: tuple[int, int, int, int]) -> Tensor:
    """Returns the maximum in each window. If maxima are tied, the first one gets the gradient.

    Args:
        x: [N, C, H, W] in channels_last. `fits` must be true.
        kernel: The side of the square window in pixels.
        stride: The stride in pixels.
        pads: The padding with -inf in pixels: left, right, above and below.

    Returns:
        [N, C, (H + above + below - kernel) // stride + 1, ...] in channels_last, in x's dtype.
    """
    out: Tensor = _MaxPool.apply(x, kernel, stride, pads)  # type: ignore[no-untyped-call]
    return out


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernel: int, stride: int, pads: tuple[int, int, int, int]
    ) -> Tensor:
        left, right, top, bottom = pads
        count, channels, height, width = x.shape
        shape = (
            count,
            channels,
            (height + top + bottom - kernel) // stride + 1,
            (width + left + right - kernel) // stride + 1,
        )
        y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        which = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
        ctx.shape, ctx.window = tuple(x.shape), (kernel, stride, top, left)
        job = _job(x.dtype, ctx.shape, y, which, ctx.window)
        job.x, job.y = x.data_ptr(), y.data_ptr()
        compiled().pool_forward(ctypes.byref(job))
        ctx.save_for_backward(which)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (which,) = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        dx = torch.empty(ctx.shape, dtype=dy.dtype, memory_format=torch.channels_last)
        job = _job(dy.dtype, ctx.shape, dy, which, ctx.window)
        job.dy, job.dx = dy.data_ptr(), dx.data_ptr()
        compiled().pool_backward(ctypes.byref(job))
        return dx, None, None, None


def _job(
    dtype: torch.dtype,
    shape: Shape,
    given: Tensor,
    which: Tensor,
    window: tuple[int, int, int, int],
) -> MaxPoolJob:
    kernel, stride, top, left = window
    job = job_over(MaxPoolJob, shape, tuple(given.shape), top, left)
    job.half, job.kernel, job.stride = dtype == torch.bfloat16, kernel, stride
    job.which = which.data_ptr()
    return job
