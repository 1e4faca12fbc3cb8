"""Batch norm in training, fused with the following addition and activation."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from forebear.network.kernels.native import Library, NormJob, compiled, library
from forebear.network.plan.plan import Activation

LANES = 16  # the number of channels must be a multiple of this
CODES: dict[Activation, int] = {"none": 0, "relu": 1, "hardswish": 2}  # the enum in norm.c


def fits(norm: nn.BatchNorm2d, x: Tensor, added: Tensor | None, activation: Activation) -> bool:
    """Whether `normed` supports these arguments."""
    return (
        norm.training
        and norm.affine
        and norm.momentum is not None
        and x.device.type == "cpu"
        and x.dtype in (torch.bfloat16, torch.float32)
        and norm.weight.dtype == torch.float32
        and x.shape[1] % LANES == 0
        and x.numel() > x.shape[1]  # torch raises an error for a single value per channel
        and x.is_contiguous(memory_format=torch.channels_last)
        and (added is None or (added.dtype == x.dtype and added.shape == x.shape))
        and (added is None or activation != "hardswish")
        and isinstance(library(), Library)
    )


def normed(
    norm: nn.BatchNorm2d,
    x: Tensor,
    added: Tensor | None = None,
    *,
    activation: Activation,
    biased: bool = False,
) -> Tensor:
    """Returns activation(norm(x) + added), or activation(norm(x)), and updates the running values.

    Statistics and intermediate values are float32. torch's own operations round to bfloat16 after
    each step. `fits` must be true.

    Args:
        norm: The norm, in training mode.
        x: [N, C, H, W] in channels_last, bfloat16 or float32.
        added: A tensor of the same shape and dtype, or None.
        activation: The activation. After an addition, hardswish is not supported.
        biased: Whether the biased variance of the batch updates the running variance.
    """
    if norm.track_running_stats and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    out: Tensor = _Normed.apply(  # type: ignore[no-untyped-call]
        x, added, norm.weight, norm.bias, norm, (activation, biased)
    )
    return out


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        added: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        norm: nn.BatchNorm2d,
        kind: tuple[Activation, bool],
    ) -> Tensor:
        activation, biased = kind
        job, kept = _job(x, weight, bias, activation)
        job.biased = biased
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
        ctx.activation, ctx.adds = activation, added is not None
        # Without an addition, the backward pass recomputes y from x, which it reads anyway.
        keeps = ctx.adds and activation != "none"
        ctx.save_for_backward(x, weight, bias, mean, scale, y if keeps else None)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, scale, y = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        job, kept = _job(x, weight, bias, ctx.activation)
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


def _job(x: Tensor, weight: Tensor, bias: Tensor, activation: Activation) -> tuple[NormJob, Tensor]:
    """Returns the arguments that both passes need, and their workspace.

    The caller must keep the workspace alive during the call of the C function.
    """
    channels, threads = x.shape[1], torch.get_num_threads()
    sums = torch.zeros(threads * 2 * channels, dtype=torch.float64)
    job = NormJob(
        pool=compiled().pool,
        threads=threads,
        half=x.dtype == torch.bfloat16,
        activation=CODES[activation],
        rows=x.numel() // channels,
        channels=channels,
        x=x.data_ptr(),
        weight=weight.data_ptr(),
        bias=bias.data_ptr(),
        sums=sums.data_ptr(),
    )
    return job, sums
