"""3x3 convolutions of stride 1 in groups of 4 or 8 channels in bfloat16: ResNeXt's first blocks."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from forebear.network.kernels.library import Groups as Job
from forebear.network.kernels.library import Library, Shape, compiled, job_over, library
from forebear.network.kernels.window import Window

SIZES = (4, 8)  # channels of a group; of more, oneDNN's own are as fast
CHANNELS = 32  # that the C functions take at once
LANES = 16  # sums of a vector


def fits(window: Window, x: Tensor, weight: Tensor) -> bool:
    """Whether `Groups` can do the work of this convolution."""
    return (
        window.kernel == 3
        and window.stride == 1
        and max(window.top, window.left) <= 2
        and x.dtype == torch.bfloat16
        and weight.dtype == torch.float32
        and weight.shape[1] in SIZES
        and weight.shape[0] == x.shape[1]
        and x.shape[1] % CHANNELS == 0
        and has_groups()
    )


def has_groups() -> bool:
    """Whether the C functions are there and this processor multiplies bfloat16 in AVX-512."""
    found = library()
    return isinstance(found, Library) and bool(found.groups_here())


class Groups(torch.autograd.Function):
    """The convolution of a map, for which `fits` holds; as conv.py's other ways."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, window: Window) -> Tensor:
        """Gives [N, channels, window.height, window.width] in channels_last."""
        ctx.window = window
        ctx.save_for_backward(x, weight)
        shape = (len(x), len(weight), window.height, window.width)
        return _map(x, weight, shape, window.top, window.left)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gives the gradients of the input and, in float32, of the weights."""
        x, weight = ctx.saved_tensors
        top, left = ctx.window.top, ctx.window.left
        dy = dy.contiguous(memory_format=torch.channels_last)
        dx = dweight = None
        if ctx.needs_input_grad[0]:
            dx = _map(dy, _turned(weight), tuple(x.shape), 2 - top, 2 - left)
        if ctx.needs_input_grad[1]:
            dweight = _weight_gradient(x, dy, weight.shape[1], top, left)
        return dx, dweight, None


def _turned(weight: Tensor) -> Tensor:
    """[C, size, 3, 3] for the gradient of the input: turned, and the other way in each group."""
    channels, size = weight.shape[:2]
    groups = weight.reshape(channels // size, size, size, 3, 3)
    return groups.transpose(1, 2).flip(3, 4).reshape(weight.shape)


def _map(x: Tensor, weight: Tensor, shape: Shape, top: int, left: int) -> Tensor:
    channels, size = weight.shape[:2]
    pairs = weight.bfloat16().reshape(channels // CHANNELS, 2, LANES, size // 2, 2, 9)
    packed = pairs.permute(0, 5, 3, 1, 2, 4).contiguous()
    y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    zeros = x.new_zeros(channels)
    job = _job(x, zeros, size, shape, top, left)
    job.weight, job.y = packed.data_ptr(), y.data_ptr()
    compiled().groups_map(ctypes.byref(job))
    return y


def _weight_gradient(x: Tensor, dy: Tensor, size: int, top: int, left: int) -> Tensor:
    channels, zeros = x.shape[1], x.new_zeros(x.shape[1])
    job = _job(x, zeros, size, tuple(dy.shape), top, left)
    sums = torch.zeros(job.threads, channels // LANES, 9, size, LANES)
    job.dy, job.sums = dy.data_ptr(), sums.data_ptr()
    compiled().groups_weight(ctypes.byref(job))
    return sums.sum(0).permute(0, 3, 2, 1).reshape(channels, size, 3, 3)


def _job(x: Tensor, zeros: Tensor, size: int, shape: Shape, top: int, left: int) -> Job:
    job = job_over(Job, tuple(x.shape), shape, top, left)
    job.size, job.x, job.zeros = size, x.data_ptr(), zeros.data_ptr()
    return job
