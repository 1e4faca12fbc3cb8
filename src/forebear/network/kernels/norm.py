"""Batch norm in training with the addition and the ReLU after it, as one operation."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from forebear.network.kernels.library import Library, Norm, compiled, library

LANES = 16  # channels that the C functions take at once


def fits(norm: nn.BatchNorm2d, x: Tensor, added: Tensor | None) -> bool:
    """Whether `norm_relu` can do the work of this norm on this map."""
    return (
        norm.training
        and norm.affine
        and norm.momentum is not None
        and x.device.type == "cpu"
        and x.dtype in (torch.bfloat16, torch.float32)
        and norm.weight.dtype == torch.float32
        and x.shape[1] % LANES == 0
        and x.numel() > x.shape[1]  # torch refuses a single value a channel, and says so
        and x.is_contiguous(memory_format=torch.channels_last)
        and (added is None or (added.dtype == x.dtype and added.shape == x.shape))
        and isinstance(library(), Library)
    )


def norm_relu(
    norm: nn.BatchNorm2d,
    x: Tensor,
    added: Tensor | None = None,
    *,
    relu: bool,
    biased: bool = False,
) -> Tensor:
    """relu(norm(x) + added), or without the ReLU or the addition; moves the running values.

    Statistics, and all that lies between x and the result, are float32; torch's own operations
    round to bfloat16 after each step.

    Args:
        norm: in training.
        x: [N, C, H, W] in channels_last, bfloat16 or float32, for which `fits` holds.
        added: of the same shape and dtype.
        relu: whether one follows.
        biased: whether the running variance takes in the biased one of the batch.
    """
    if norm.track_running_stats and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    out: Tensor = _NormReLU.apply(  # type: ignore[no-untyped-call]
        x, added, norm.weight, norm.bias, norm, (relu, biased)
    )
    return out


class _NormReLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        added: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        norm: nn.BatchNorm2d,
        kind: tuple[bool, bool],
    ) -> Tensor:
        relu, job_biased = kind
        job, kept = _job(x, weight, bias, relu)
        job.biased = job_biased
        if added is not None:
            added = added.contiguous(memory_format=torch.channels_last)
            job.added = added.data_ptr()
        y, mean, scale = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        job.y, job.mean, job.scale = y.data_ptr(), mean.data_ptr(), scale.data_ptr()
        job.eps, job.momentum = norm.eps, norm.momentum
        if norm.running_mean is not None and norm.running_var is not None:
            job.running_mean = norm.running_mean.data_ptr()
            job.running_var = norm.running_var.data_ptr()
        compiled().norm_forward(ctypes.byref(job))
        del kept
        ctx.relu, ctx.adds = relu, added is not None
        # Without an addition the sign of y is computed again from x, which is read anyway.
        ctx.save_for_backward(x, weight, bias, mean, scale, y if relu and ctx.adds else None)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, scale, y = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        job, kept = _job(x, weight, bias, ctx.relu)
        dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
        job.mean, job.scale = mean.data_ptr(), scale.data_ptr()
        job.dy, job.dx = dy.data_ptr(), dx.data_ptr()
        job.dweight, job.dbias = dweight.data_ptr(), dbias.data_ptr()
        dadded = dy if ctx.adds else None
        if y is not None:
            dadded = torch.empty_like(x)
            job.y, job.dadded = y.data_ptr(), dadded.data_ptr()
        compiled().norm_backward(ctypes.byref(job))
        del kept
        return dx, dadded, dweight, dbias, None, None


def _job(x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> tuple[Norm, Tensor]:
    """What both passes are told, and the work space, which must outlive the call."""
    channels, threads = x.shape[1], torch.get_num_threads()
    sums = torch.zeros(threads * 2 * channels, dtype=torch.float64)
    job = Norm(
        pool=compiled().pool,
        threads=threads,
        half=x.dtype == torch.bfloat16,
        relu=relu,
        rows=x.numel() // channels,
        channels=channels,
        x=x.data_ptr(),
        weight=weight.data_ptr(),
        bias=bias.data_ptr(),
        sums=sums.data_ptr(),
    )
    return job, sums
