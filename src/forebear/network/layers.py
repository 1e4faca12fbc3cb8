"""The modules of single layers. Within a layer the order is convolution, norm, activation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forebear.network.plan.plan import Activation, Layer
from forebear.tables.dialects import Dialect


class BiasedNorm(nn.BatchNorm2d):
    """Batch norm that updates its running variance with the biased variance of the batch.

    Keras 3 on TensorFlow does so (keras/src/layers/normalization/batch_normalization.py). torch,
    TF-Slim and Keras 2 use the unbiased variance. The outputs in training are the same.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalises `input`, [N, C, H, W], and updates the running statistics in training."""
        if not (self.training and self.track_running_stats):
            return super().forward(input)
        assert self.running_var is not None  # set by norm()
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        moved = self.running_var.clone()  # the backward pass needs torch's value unchanged
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
    """Returns the batch norm of a dialect."""
    kind = BiasedNorm if dialect.norm_variance == "biased" else nn.BatchNorm2d
    return kind(channels, eps=dialect.norm_eps, momentum=1 - dialect.norm_decay)


def same_pads(layer: Layer, side: int) -> tuple[int, int]:
    """Returns TensorFlow's SAME padding, before and after an axis of `side` values, in pixels.

    If the total is odd, the additional pixel goes after. If strides were replaced by dilation, the
    windows must start at the same places as on the coarse map. The padding before is therefore that
    of the coarse map, multiplied by the dilation.
    """
    coarse = (side + layer.dense - 1) // layer.dense
    reach = layer.rate // layer.dense * (layer.kernel - 1)
    total = (coarse + layer.step - 1) // layer.step * layer.step - layer.step + reach + 1 - coarse
    # Only these kernels can give a negative total. A max() for all complicates exported shapes.
    if reach + 1 < layer.step:
        total = max(total, 0)
    before = total // 2 * layer.dense
    if layer.stride == layer.step and layer.dense == 1:
        return before, total - before
    return before, layer.rate * (layer.kernel - 1) - before


def pads(layer: Layer, x: Tensor) -> tuple[int, int, int, int]:
    """Returns the padding of x in pixels, in F.pad's order: left, right, above, below."""
    if layer.padding == "same":
        return *same_pads(layer, x.shape[3]), *same_pads(layer, x.shape[2])
    return (layer.padding * layer.rate,) * 4


def activate(x: Tensor, activation: Activation) -> Tensor:
    """Returns activation(x)."""
    if activation == "none":
        return x
    return F.relu(x) if activation == "relu" else F.hardswish(x)


class Conv(nn.Module):
    """activation(norm(conv(x))). The plan decides on the norm and the activation.

    Shape: [N, in_channels, H, W] -> [N, channels, H', W'].
    """

    def __init__(self, layer: Layer, dialect: Dialect) -> None:
        super().__init__()
        self.layer = layer
        # In the weight gradient of a strided 1x1 convolution with fewer than 16 channels, oneDNN
        # 3.12 writes past its buffer (uxlfoundation/oneDNN issue 6035). `aligned` subsamples x
        # instead.
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

    def forward(self, x: Tensor) -> Tensor:
        """Returns the activations, [N, channels, H', W']."""
        y: Tensor = self.conv(self.aligned(x))
        if self.norm is not None:
            y = self.norm(y)
        return activate(y, self.layer.activation)

    def aligned(self, x: Tensor) -> Tensor:
        """Applies the padding and the stride that `self.conv` does not apply itself."""
        if self.layer.padding == "same":
            x = F.pad(x, pads(self.layer, x))
        if self.first_stride > 1:
            x = x[:, :, :: self.first_stride, :: self.first_stride]
        return x


class Norm(nn.Module):
    """activation(norm(x)): a pre-activation, the last norm, or a norm after a pool."""

    def __init__(self, layer: Layer, dialect: Dialect) -> None:
        super().__init__()
        self.activation = layer.activation
        self.norm = norm(layer.channels, dialect)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the activations, in the shape of x."""
        return activate(self.norm(x), self.activation)


class Pool(nn.Module):
    """Max pool with the alignment and the padding value of the dialect.

    On maps with an even side, the first window starts at pixel 0 in TensorFlow's SAME and in Caffe,
    and at pixel -1 in torch and Keras. Keras pads with zeros, which changes the maximum if the
    input has negative values.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Returns [N, C, ceil(H / stride), ceil(W / stride)], or less without padding."""
        layer = self.layer
        left, right, above, below = around = pads(layer, x)
        # A compiled network must work for maps with even and with odd sides, so it pads explicitly.
        # Otherwise torch's own padding saves a copy of x, if the padding is equal on both sides.
        symmetric = layer.padding != "same" or (
            not torch.compiler.is_compiling() and (left, above) == (right, below)
        )
        if layer.fill == "lowest" and symmetric:
            return F.max_pool2d(x, layer.kernel, layer.stride, (above, left), layer.rate)
        x = F.pad(x, around, value=0.0 if layer.fill == "zero" else float("-inf"))
        return F.max_pool2d(x, layer.kernel, layer.stride, 0, layer.rate)


class Identity(nn.Module):
    """A shortcut without weights: it subsamples by the stride and adds zero channels.

    He et al. 2015, section 4.1, option A.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Returns [N, channels, ceil(H / stride), ceil(W / stride)] for [N, in_channels, H, W]."""
        stride, zeros = self.layer.stride, self.layer.zeros
        if stride > 1:
            x = x[:, :, ::stride, ::stride]
        return F.pad(x, (0, 0, 0, 0, *zeros)) if any(zeros) else x


class Mean(nn.Module):
    """Global average pooling: [N, C, H, W] -> [N, C]."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns the mean over each map, [N, C]."""
        return x.mean((2, 3))


class Logits(nn.Linear):
    """The classifier: [N, C] -> [N, classes], or [N, C, H, W] -> [N, classes, H, W]."""

    def forward(self, input: Tensor) -> Tensor:
        """Returns one logit for each class, at every position if the input is a map."""
        if input.ndim == 2:
            return super().forward(input)
        return F.conv2d(input, self.weight[:, :, None, None], self.bias)


def make(layer: Layer, dialect: Dialect) -> nn.Module:
    """Returns the module of one planned layer."""
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
