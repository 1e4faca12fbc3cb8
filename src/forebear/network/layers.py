"""The layers that a plan's rows become. Their order is fixed: convolution, norm, activation."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forebear.network.kernels.conv import convolve, fork, helps
from forebear.network.kernels.norm import fits, normed
from forebear.network.kernels.pool import fits as pool_fits
from forebear.network.kernels.pool import max_pool
from forebear.network.kernels.window import Window
from forebear.network.plan import Activation, Layer
from forebear.tables.dialects import Dialect


class BiasedNorm(nn.BatchNorm2d):
    """Batch norm whose running variance takes in the biased variance of the batch.

    Keras 3 on TensorFlow does so (keras/src/layers/normalization/batch_normalization.py); torch,
    TF-Slim and Keras 2 take in the unbiased one. The outputs are the same.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalises `input`, [N, C, H, W], and moves the running values while training."""
        if not (self.training and self.track_running_stats):
            return super().forward(input)
        assert self.running_var is not None  # set by norm()
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        moved = self.running_var.clone()  # the backward pass wants it as torch left it
        out = F.batch_norm(
            *(input, self.running_mean, moved, self.weight, self.bias),
            training=True,
            momentum=self.momentum,
            eps=self.eps,
        )
        count = input.numel() // input.shape[1]
        with torch.no_grad():
            kept = self.running_var * (1 - self.momentum)
            self.running_var.copy_(kept + (moved - kept) * ((count - 1) / count))
        return out


def norm(channels: int, dialect: Dialect) -> nn.BatchNorm2d:
    """Batch norm as the dialect has it."""
    kind = BiasedNorm if dialect.norm_variance == "biased" else nn.BatchNorm2d
    return kind(channels, eps=dialect.norm_eps, momentum=1 - dialect.norm_decay)


def same_pads(layer: Layer, side: int) -> tuple[int, int]:
    """Pixels that TensorFlow's SAME puts before and after one axis of `side` values.

    The odd pixel goes behind. Where steps have become rates the windows must start where the
    coarse map's start, so the amount before is that of the coarse map, times its rate.
    """
    coarse = (side + layer.dense - 1) // layer.dense
    reach = layer.rate // layer.dense * (layer.kernel - 1)
    total = (coarse + layer.step - 1) // layer.step * layer.step - layer.step + reach + 1 - coarse
    if reach + 1 < layer.step:  # else never below 0, and exported shapes stay simple
        total = max(total, 0)
    before = total // 2 * layer.dense
    if layer.stride == layer.step and layer.dense == 1:
        return before, total - before
    return before, layer.rate * (layer.kernel - 1) - before


def watched(module: nn.Module) -> bool:
    """Whether somebody looks at the module's inputs, outputs or gradients: it must then be run."""
    hooks = (
        *(module._forward_pre_hooks, module._forward_hooks),
        *(module._backward_pre_hooks, module._backward_hooks),
    )
    everywhere: bool = nn.modules.module._has_any_global_hook()  # type: ignore[no-untyped-call]
    return everywhere or any(hooks)


def _normed(
    module: nn.BatchNorm2d,
    x: Tensor,
    added: Tensor | None = None,
    *,
    activation: Activation,
    fast: bool,
) -> Tensor:
    """activation(norm(x) + added), as one operation where that is asked for and can be."""
    biased = type(module) is BiasedNorm
    known = biased or type(module) is nn.BatchNorm2d
    if fast and known and fits(module, x, added, activation) and not watched(module):
        return normed(module, x, added, activation=activation, biased=biased)
    x = module(x)
    return _activated(x if added is None else added + x, activation)


def _activated(x: Tensor, activation: Activation) -> Tensor:
    if activation == "none":
        return x
    return F.relu(x) if activation == "relu" else F.hardswish(x)


class Conv(nn.Module):
    """A convolution, then its norm and its activation where the plan has them.

    Shape: [N, in_channels, H, W] -> [N, channels, H', W'].
    """

    fast = False  # whether training takes the faster ways of `kernels`; see accelerate.py

    def __init__(self, layer: Layer, dialect: Dialect) -> None:
        super().__init__()
        self.layer = layer
        # oneDNN 3.12 writes past its buffer in the weight gradient of a strided 1x1 convolution of
        # fewer than 16 channels (uxlfoundation/oneDNN issue 6035), so the stride is taken first.
        first = layer.kernel == 1 and layer.in_channels < 16
        self.first_stride, stride = (layer.stride, 1) if first else (1, layer.stride)
        self.conv = nn.Conv2d(
            layer.in_channels,
            layer.channels,
            layer.kernel,
            stride,
            0 if layer.padding == "same" else layer.padding * layer.rate,
            layer.rate,
            layer.groups,
            bias=layer.bias,
        )
        self.norm = norm(layer.channels, dialect) if layer.norm else None

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """Gives [N, channels, H', W'].

        Args:
            x: the map.
            added: what a residual unit adds before its ReLU, which then follows.
        """
        fast = self._is_fast()
        y = self._faster(x) if fast else None
        if y is None:
            y = self._convolution(x)
        return self._finished(y, added, fast=fast)

    def fork(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The map for the convolutions of a residual unit, and its shortcut's forward.

        Where the shortcut is strided and trains the fast way, the gradients of both are one map.
        """
        window = None
        if self._is_fast() and self.layer.kernel == 1 and self.layer.stride > 1:
            window = self._window(x)
        if window is None or x.dtype != _compute_dtype(x) or watched(self):
            return x, self(x)
        x, y = fork(window, x, self.conv.weight)
        return x, self._finished(self._biased(y), None, fast=True)

    def _is_fast(self) -> bool:
        return self.fast and self.training and not torch.compiler.is_compiling()

    def _finished(self, y: Tensor, added: Tensor | None, *, fast: bool) -> Tensor:
        """The norm, the addition and the activation after the convolution."""
        activation = self.layer.activation if added is None else "relu"
        if self.norm is not None:
            return _normed(self.norm, y, added, activation=activation, fast=fast)
        return _activated(y if added is None else added + y, activation)

    def _convolution(self, x: Tensor) -> Tensor:
        if self.layer.padding == "same":
            pads = (*same_pads(self.layer, x.shape[3]), *same_pads(self.layer, x.shape[2]))
            x = F.pad(x, pads)
        if self.first_stride > 1:
            x = x[:, :, :: self.first_stride, :: self.first_stride]
        y: Tensor = self.conv(x)
        return y

    def _faster(self, x: Tensor) -> Tensor | None:
        """The convolution by a faster way, or None where torch's own is to be taken."""
        window = self._window(x)
        if window is None or not helps(window, x, self.conv.weight):
            return None
        (top, bottom), (left, right) = self._pads(x)
        uneven = (top, left) != (bottom, right)
        if uneven and not window.sees_all(*x.shape[2:]):
            x = F.pad(x, (left, right, top, bottom))
            window = replace(window, top=0, left=0)
        return self._biased(convolve(window, x.to(_compute_dtype(x)), self.conv.weight))

    def _window(self, x: Tensor) -> Window | None:
        """How the kernel moves over x; None where no faster way may be taken."""
        layer, weight = self.layer, self.conv.weight
        if (
            layer.rate > 1
            or x.device.type != "cpu"
            or _compute_dtype(x) not in (torch.bfloat16, torch.float32)
            or weight.dtype != torch.float32
            or not x.is_contiguous(memory_format=torch.channels_last)
            or watched(self.conv)
        ):
            return None
        (top, _), (left, _) = self._pads(x)
        return Window(
            kernel=layer.kernel,
            stride=layer.stride,
            top=top,
            left=left,
            height=layer.out_side(x.shape[2]),
            width=layer.out_side(x.shape[3]),
            groups=layer.groups,
        )

    def _pads(self, x: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
        """Pixels before and after the rows of x, and its columns, at rate 1."""
        if self.layer.padding == "same":
            return same_pads(self.layer, x.shape[2]), same_pads(self.layer, x.shape[3])
        return (self.layer.padding,) * 2, (self.layer.padding,) * 2

    def _biased(self, y: Tensor) -> Tensor:
        bias = self.conv.bias
        return y if bias is None else y + bias.to(y.dtype)[:, None, None]


def _compute_dtype(x: Tensor) -> torch.dtype:
    """What a convolution of x computes in: autocast's dtype where it is on."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


class Norm(nn.Module):
    """A norm and an activation alone: the pre-activation, the last norm, one after a pool."""

    fast = False  # as Conv's

    def __init__(self, layer: Layer, dialect: Dialect) -> None:
        super().__init__()
        self.activation = layer.activation
        self.norm = norm(layer.channels, dialect)

    def forward(self, x: Tensor) -> Tensor:
        """Gives the shape that came in."""
        fast = self.fast and not torch.compiler.is_compiling()
        return _normed(self.norm, x, activation=self.activation, fast=fast)


class Pool(nn.Module):
    """A max-pool aligned and filled as the dialect says.

    Three alignments exist: TensorFlow's SAME and Caffe's start at 0 on maps of even side, torch
    and Keras at -1; Keras fills with zeros, which a pool over raw convolutions can see.
    """

    fast = False  # as Conv's

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Gives [N, C, ceil(H / stride), ceil(W / stride)], less for a pool without padding."""
        layer = self.layer
        beyond = 0.0 if layer.fill == "zero" else float("-inf")
        if layer.padding == "same":
            pads = (*same_pads(layer, x.shape[3]), *same_pads(layer, x.shape[2]))
            # A compiled network must serve maps of even and odd side alike; otherwise torch's own
            # padding spares a copy where both sides are padded alike.
            even = not torch.compiler.is_compiling() and pads[::2] == pads[1::2]
        else:
            pads, even = (layer.padding * layer.rate,) * 4, True
        fast = self.fast and self.training and not torch.compiler.is_compiling()
        if fast and beyond and layer.rate == 1 and pool_fits(x, layer.kernel, pads):
            return max_pool(x, layer.kernel, layer.stride, pads)
        if even and beyond:
            return F.max_pool2d(x, layer.kernel, layer.stride, pads[2::-2], layer.rate)
        x = F.pad(x, pads, value=beyond)
        return F.max_pool2d(x, layer.kernel, layer.stride, 0, layer.rate)


class Identity(nn.Module):
    """The shortcut without weights: every stride-th value, with zero channels added.

    He et al. 2015, section 4.1, option A.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, channels, ceil(H / stride), ceil(W / stride)]."""
        stride, zeros = self.layer.stride, self.layer.zeros
        if stride > 1:
            x = x[:, :, ::stride, ::stride]
        return F.pad(x, (0, 0, 0, 0, *zeros)) if any(zeros) else x


class Mean(nn.Module):
    """The mean over a map: [N, C, H, W] -> [N, C]."""

    def forward(self, x: Tensor) -> Tensor:
        """Gives [N, C]."""
        return x.mean((2, 3))


class Logits(nn.Linear):
    """Class scores: [N, C] -> [N, classes], or [N, C, H, W] -> [N, classes, H, W]."""

    def forward(self, input: Tensor) -> Tensor:
        """Gives one score a class, at every place of a map."""
        if input.ndim == 2:
            return super().forward(input)
        return F.conv2d(input, self.weight[:, :, None, None], self.bias)


def make(layer: Layer, dialect: Dialect) -> nn.Module:
    """The module of one row."""
    if layer.kind == "conv":
        return Conv(layer, dialect)
    if layer.kind == "norm":
        return Norm(layer, dialect)
    if layer.kind == "pool":
        return Pool(layer)
    if layer.kind == "identity":
        return Identity(layer)
    if layer.kind == "average":
        return nn.AdaptiveAvgPool2d(layer.side)
    if layer.kind == "dropout":
        return nn.Dropout(layer.share)
    if layer.kind == "mean":
        return Mean()
    return Logits(layer.in_channels, layer.channels)
