"""The weight gradient of any convolution in float32, as matrix products.

oneDNN computes it at 40 to 60 % of the speed of the convolution itself on processors with AVX2.
"""

from __future__ import annotations

import ctypes
import threading

import torch
from torch import Tensor

from forebear.network.kernels.conv_geometry import Window
from forebear.network.kernels.native import Library, WeightJob, compiled, job_over, library

_kept = threading.local()  # the workspace, which grows to the size for the largest convolution


def fits(window: Window, dtype: torch.dtype, channels_in: int, channels: int) -> bool:
    """Whether `weight_gradient` supports a convolution in this dtype."""
    found = library()
    return (
        isinstance(found, Library)
        and found.has_fma
        and window.groups == 1
        and dtype == torch.float32
        and channels % (found.weight_fp32_lanes // 2) == 0
        and channels_in % found.weight_fp32_lanes == 0
    )


def weight_gradient(x: Tensor, dy: Tensor, window: Window) -> Tensor:
    """Returns the gradient of the weights, for a convolution for which `fits` is true.

    Args:
        x: The input, [N, C, H, W] in channels_last, not padded.
        dy: The gradient of the output, [N, K, window.height, window.width].
        window: The geometry of the convolution.

    Returns:
        [K, C, window.kernel, window.kernel] in channels_last.
    """
    x, dy = (one.contiguous(memory_format=torch.channels_last) for one in (x, dy))
    side = window.kernel
    dweight = torch.empty((dy.shape[1], x.shape[1], side, side), memory_format=torch.channels_last)
    job = job_over(WeightJob, tuple(x.shape), tuple(dy.shape), window.top, window.left)
    job.kernel, job.stride, job.out_channels = side, window.stride, dy.shape[1]
    job.x, job.dy, job.dweight = x.data_ptr(), dy.data_ptr(), dweight.data_ptr()
    size = int(compiled().weight_fp32_space(ctypes.byref(job)))
    space = getattr(_kept, "space", None)
    if space is None or space.numel() < size:
        space = _kept.space = torch.empty(size, dtype=torch.uint8)
    job.space = space.data_ptr()
    compiled().weight_fp32(ctypes.byref(job))
    return dweight
