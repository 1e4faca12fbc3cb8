"""3x3 convolutions in groups of 4 to 32 channels, as in ResNeXt."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from forebear.network.kernels.conv_geometry import Window
from forebear.network.kernels.native import (
    ConvFunctions,
    GroupsJob,
    Library,
    Shape,
    job_over,
    library,
)

SIZES = (4, 8, 16, 32)  # supported channels in a group
CHANNELS = 32  # the number of channels must be a multiple of this


def fits(window: Window, x: Tensor, weight: Tensor) -> bool:
    """Whether `Groups` supports this convolution."""
    return (
        window.kernel == 3
        and window.stride <= 2
        and max(window.top, window.left) <= 2
        and has_groups(x.dtype)
        and weight.dtype == torch.float32
        and weight.shape[1] in SIZES
        and weight.shape[0] == x.shape[1]
        and x.shape[1] % CHANNELS == 0
    )


def has_groups(dtype: torch.dtype = torch.bfloat16) -> bool:
    """Whether there are C functions for this dtype.

    In bfloat16 they need AVX-512 BF16, in float32 AVX2 and FMA.
    """
    return _functions(dtype) is not None


def _functions(dtype: torch.dtype) -> ConvFunctions | None:
    found = library()
    return found.groups.get(dtype) if isinstance(found, Library) else None


def _functions_for(x: Tensor) -> ConvFunctions:
    functions = _functions(x.dtype)
    assert functions is not None  # the caller has checked fits()
    return functions


class Groups(torch.autograd.Function):
    """A convolution for which `fits` is true, with the arguments of `convolution.convolve`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, window: Window) -> Tensor:
        """Returns [N, channels, window.height, window.width] in channels_last."""
        ctx.window = window
        ctx.save_for_backward(x, weight)
        shape = (len(x), len(weight), window.height, window.width)
        return _map(x, weight, shape, window.top, window.left, step=window.stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the input gradient, and the weight gradient in float32."""
        x, weight = ctx.saved_tensors
        window = ctx.window
        dy = dy.contiguous(memory_format=torch.channels_last)
        dx = dweight = None
        if ctx.needs_input_grad[0]:
            top, left = 2 - window.top, 2 - window.left
            dx = _map(dy, _turned(weight), tuple(x.shape), top, left, holes=window.stride)
        if ctx.needs_input_grad[1]:
            dweight = _weight_gradient(x, dy, weight.shape[1], window)
        return dx, dweight, None


def _turned(weight: Tensor) -> Tensor:
    """Returns the weights [C, size, 3, 3] for the input gradient.

    Each kernel is rotated by 180 degrees. Input and output channels are swapped in each group.
    """
    channels, size = weight.shape[:2]
    groups = weight.reshape(channels // size, size, size, 3, 3)
    return groups.transpose(1, 2).flip(3, 4).reshape(weight.shape)


def _map(
    x: Tensor, weight: Tensor, shape: Shape, top: int, left: int, *, step: int = 1, holes: int = 1
) -> Tensor:
    """Returns the convolution of x with stride `step`, with `holes` - 1 zeros between x's values.

    `shape` is the shape of the result. `top` and `left` are the zero padding before x.
    """
    functions = _functions_for(x)
    packed = _packed(weight, x.dtype, functions.lanes)
    y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    zeros = x.new_zeros(x.shape[1])
    job = job_over(GroupsJob, tuple(x.shape), shape, top, left)
    job.size, job.step, job.holes = weight.shape[1], step, holes
    job.x, job.weight, job.y = x.data_ptr(), packed.data_ptr(), y.data_ptr()
    job.zeros = zeros.data_ptr()
    functions.map(ctypes.byref(job))
    return y


def _packed(weight: Tensor, dtype: torch.dtype, lanes: int) -> Tensor:
    """Returns the weights [C, size, 3, 3] in the order of groups.c or groups_fp32.c."""
    channels, size = weight.shape[:2]
    if dtype == torch.float32:
        return weight.reshape(channels // lanes, lanes, size, 9).permute(0, 3, 2, 1).contiguous()
    pairs = weight.bfloat16().reshape(channels // CHANNELS, 2, lanes, size // 2, 2, 9)
    return pairs.permute(0, 5, 3, 1, 2, 4).contiguous()


def _weight_gradient(x: Tensor, dy: Tensor, size: int, window: Window) -> Tensor:
    functions = _functions_for(x)
    channels, zeros = x.shape[1], x.new_zeros(x.shape[1])
    job = job_over(GroupsJob, tuple(x.shape), tuple(dy.shape), window.top, window.left)
    job.size, job.step = size, window.stride
    sums = torch.zeros(job.threads, channels // functions.lanes, 9, size, functions.lanes)
    needed = job.threads * functions.space(ctypes.byref(job))
    space = torch.empty(needed, dtype=torch.uint8)
    job.x, job.dy, job.sums = x.data_ptr(), dy.data_ptr(), sums.data_ptr()
    job.zeros, job.space = zeros.data_ptr(), space.data_ptr()
    functions.weight(ctypes.byref(job))
    return sums.sum(0).permute(0, 3, 2, 1).reshape(channels, size, 3, 3)
