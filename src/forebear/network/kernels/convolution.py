"""Convolutions by the fastest algorithm: torch's own, a matrix product, Winograd's or groups.

oneDNN's direct convolutions run close to the peak speed of the hardware on large maps. Their weight
gradient passes over the whole gradient once for each image. On small maps this takes most of a
step: 12 ms for a 3x3 convolution with 512 channels on 128 maps of 1x1, while a matrix product takes
0.2 ms. For 3x3 convolutions of stride 1, Winograd's algorithm is faster still, because it needs
fewer multiplications (winograd.py); a rate above 1 splits the map into several (split_maps.py).
Convolutions in groups of few channels are fastest without a matrix product (grouped_conv.py).

In bfloat16, the limits below choose. In float32, which processors of many kinds compute, the ways
are measured on the machine (measured_choice.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from forebear.network.kernels import grouped_conv, split_maps, weight_gradient
from forebear.network.kernels.conv_geometry import Window
from forebear.network.kernels.measured_choice import Way, fastest
from forebear.network.kernels.native import Library, library
from forebear.network.kernels.winograd import Winograd
from forebear.network.kernels.winograd import fits as fits_winograd

# The largest output sides in pixels for which a matrix product was faster (bfloat16, AVX-512).
POINTWISE = 7  # 1x1: the output and the input gradient; with a stride, a product is always used
POINTWISE_WEIGHT = 28  # 1x1: the weight gradient
COLUMNS = 4  # larger kernels: the weight gradient
WIDE_COLUMNS, WIDE = 7, 256  # larger kernels with at least WIDE channels: the weight gradient
# oneDNN's weight gradient is fastest for groups of 16 channels and slowest for groups of 4.
MERGED = 16


def helps(window: Window, x: Tensor, weight: Tensor, *, winograd: bool = True) -> bool:
    """Whether `convolve` computes this convolution, as it is faster than torch's own."""
    return _way(window, x, weight, winograd) is not None


def convolve(window: Window, x: Tensor, weight: Tensor, *, winograd: bool = True) -> Tensor | None:
    """Returns the convolution of x without bias, or None if torch's own is faster.

    Args:
        window: The geometry of the convolution.
        x: [N, in_channels, H, W] in channels_last, in the compute dtype. Unless every output sees
            the whole map, the padding is the same after x as before x.
        weight: [channels, in_channels / groups, kernel, kernel], in the compute dtype or float32.
        winograd: Whether Winograd's algorithm may be used.

    Returns:
        [N, channels, window.height, window.width] in channels_last, in x's dtype.
    """
    way = _way(window, x, weight, winograd)
    return None if way is None else way.apply(x, weight, window)


def fork(window: Window, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Returns x for the other branch, and the strided 1x1 convolution of x without bias.

    The input gradient of the convolution is nonzero only at the positions that it reads. It is
    added in place to the gradient of the other branch. Hooks must therefore not see the gradient of
    the other branch.

    Args:
        window: The geometry of a 1x1 convolution in one group, with a stride above 1.
        x: [N, in_channels, H, W] in channels_last, in the compute dtype.
        weight: [channels, in_channels, 1, 1], in the compute dtype or float32.
    """
    out: tuple[Tensor, Tensor] = _Fork.apply(x, weight, window)  # type: ignore[no-untyped-call]
    return out


def _way(window: Window, x: Tensor, weight: Tensor, winograd: bool) -> Way | None:
    """Returns the fastest way; None: torch's own convolution."""
    if window.sees_all(*x.shape[2:]):
        return _Connected
    ways = list(_ways(window, x, weight, winograd))
    if x.dtype == torch.float32 and ways and isinstance(library(), Library):
        return fastest(ways, window, x, weight)
    return next(iter(ways), None)


def _ways(window: Window, x: Tensor, weight: Tensor, winograd: bool) -> Iterator[Way]:
    """Yields what may be faster than torch's own convolution; first what mostly is."""
    if window.rate > 1:
        if winograd and split_maps.fits(window, x, weight):
            yield split_maps.Split
        return
    if window.groups > 1:
        few = weight.shape[1] == 4 and weight.shape[0] == x.shape[1] and x.shape[1] % MERGED == 0
        if grouped_conv.fits(window, x, weight):
            yield grouped_conv.Groups
        if few:
            yield _Merged
        return
    products = weight_gradient.fits(window, x.dtype, x.shape[1], len(weight))
    if window.kernel == 1:
        if window.side <= POINTWISE_WEIGHT or products:
            yield _Pointwise
        return
    if winograd and fits_winograd(window, x, weight):
        yield Winograd
    wide = min(weight.shape[:2]) >= WIDE
    if products or window.side <= (WIDE_COLUMNS if wide else COLUMNS):
        yield _Columns


def _rows(x: Tensor) -> Tensor:
    """Returns [N, C, H, W] as [N * H * W, C]. In channels_last this is a view."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _flat(x: Tensor) -> Tensor:
    """Returns [N, C, H, W] as [N, H * W * C]."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1)


def _map(rows: Tensor, count: int, height: int, width: int) -> Tensor:
    """Inverts `_rows` or `_flat`: returns [N, C, H, W] in channels_last."""
    return rows.view(count, height, width, -1).permute(0, 3, 1, 2)


class _Connected(torch.autograd.Function):
    """A convolution whose outputs all see the whole map, as one matrix product.

    Kernel positions on the padding are left out.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, window: Window) -> Tensor:
        taps = weight.permute(0, 2, 3, 1)  # channels last
        parts = [taps[:, rows, columns] for rows, columns in window.views(*x.shape[2:])]
        matrix = torch.stack([part.to(x.dtype) for part in parts]).view(-1, _flat(x).shape[1])
        ctx.save_for_backward(x, matrix)
        ctx.window, ctx.taps, ctx.dtype = window, taps.shape, weight.dtype
        return _map(_flat(x) @ matrix.t(), len(x), window.height, window.width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, matrix = ctx.saved_tensors
        rows, (height, width) = _flat(dy), x.shape[2:]
        dx = dweight = None
        if ctx.needs_input_grad[0]:
            dx = _map(rows @ matrix, len(x), height, width)
        if ctx.needs_input_grad[1]:
            parts = (rows.t() @ _flat(x)).view(-1, ctx.taps[0], height, width, x.shape[1])
            if parts.shape[1:] == ctx.taps:
                dtaps = parts[0].to(ctx.dtype)
            else:
                dtaps = torch.zeros(ctx.taps, dtype=ctx.dtype)
                views = ctx.window.views(height, width)
                for part, (high, wide) in zip(parts, views, strict=True):
                    dtaps[:, high, wide] += part
            dweight = dtaps.permute(0, 3, 1, 2)
        return dx, dweight, None


class _Pointwise(torch.autograd.Function):
    """A 1x1 convolution, which first subsamples its input by the stride."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, window: Window) -> Tensor:
        step, ctx.shape = window.stride, x.shape
        if step > 1:
            x = x[:, :, ::step, ::step].contiguous(memory_format=torch.channels_last)
        matrix = weight.flatten(1).to(x.dtype)
        ctx.save_for_backward(x, matrix)
        ctx.window, ctx.dtype = window, weight.dtype
        ctx.directly = step == 1 and window.side > POINTWISE
        if ctx.directly:
            return F.conv2d(x, matrix[:, :, None, None])
        return _map(_rows(x) @ matrix.t(), len(x), window.height, window.width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, matrix = ctx.saved_tensors
        step, rows = ctx.window.stride, _rows(dy)
        dx = dweight = None
        if ctx.needs_input_grad[0] and ctx.directly:
            dx, _ = _gradients(dy, x, matrix[:, :, None, None], ctx.window, (True, False))
        elif ctx.needs_input_grad[0]:
            dx = _map(rows @ matrix, len(x), *x.shape[2:])
            if step > 1:
                count, channels, height, width = ctx.shape
                whole = x.new_zeros(count, height, width, channels).permute(0, 3, 1, 2)
                whole[:, :, ::step, ::step] = dx
                dx = whole
        if ctx.needs_input_grad[1]:
            dweight = _product(dy, x).to(ctx.dtype)
        return dx, dweight, None


class _Fork(torch.autograd.Function):
    """A strided 1x1 convolution whose input has another branch: see `fork`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, window: Window) -> tuple[Tensor, Tensor]:
        step = ctx.step = window.stride
        picked = x[:, :, ::step, ::step].contiguous(memory_format=torch.channels_last)
        matrix = weight.flatten(1).to(x.dtype)
        ctx.save_for_backward(picked, matrix)
        ctx.dtype = weight.dtype
        rows = _rows(picked) @ matrix.t()
        return x.view_as(x), _map(rows, len(x), window.height, window.width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dx: Tensor, dy: Tensor) -> tuple[Tensor | None, ...]:
        picked, matrix = ctx.saved_tensors
        rows, dweight = _rows(dy), None
        if ctx.needs_input_grad[0]:
            dx[:, :, :: ctx.step, :: ctx.step] += _map(rows @ matrix, len(dx), *picked.shape[2:])
        if ctx.needs_input_grad[1]:
            dweight = _product(dy, picked).to(ctx.dtype)
        return dx if ctx.needs_input_grad[0] else None, dweight, None


class _Columns(torch.autograd.Function):
    """oneDNN's convolution, with the weight gradient as matrix products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, window: Window) -> Tensor:
        ctx.window, ctx.dtype = window, weight.dtype
        weight = weight.to(x.dtype)
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, None, window.stride, (window.top, window.left))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dx = dweight = None
        if ctx.needs_input_grad[0]:
            dx, _ = _gradients(dy, x, weight, ctx.window, (True, False))
        if ctx.needs_input_grad[1]:
            if weight_gradient.fits(ctx.window, x.dtype, x.shape[1], len(weight)):
                return dx, weight_gradient.weight_gradient(x, dy, ctx.window), None
            taps = weight.permute(0, 2, 3, 1)
            dtaps = (_rows(dy).t() @ _columns(x, ctx.window)).view(taps.shape)
            dweight = dtaps.permute(0, 3, 1, 2).to(ctx.dtype)
        return dx, dweight, None


def _product(dy: Tensor, x: Tensor) -> Tensor:
    """Returns the weight gradient [K, C, 1, 1] of a 1x1 convolution of stride 1."""
    window = Window(1, 1, 0, 0, *x.shape[2:])
    if weight_gradient.fits(window, x.dtype, x.shape[1], dy.shape[1]):
        return weight_gradient.weight_gradient(x, dy, window)
    return (_rows(dy).t() @ _rows(x))[:, :, None, None]


def _columns(x: Tensor, window: Window) -> Tensor:
    """Returns im2col of x: [N, C, H, W] -> [N * height * width, kernel * kernel * C]."""
    pads = (window.left, window.left, window.top, window.top)
    taps = F.pad(x, pads).permute(0, 2, 3, 1) if any(pads) else x.permute(0, 2, 3, 1)
    windows = taps.unfold(1, window.kernel, window.stride).unfold(2, window.kernel, window.stride)
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, window.kernel**2 * x.shape[1])


class _Merged(torch.autograd.Function):
    """A convolution in groups of few channels, whose weight gradient is computed in larger groups.

    Only the part within the original groups is kept. The rest, which connects different groups, is
    discarded.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, window: Window) -> Tensor:
        ctx.window, ctx.dtype = window, weight.dtype
        weight = weight.to(x.dtype)
        ctx.save_for_backward(x, weight)
        pads = (window.top, window.left)
        return F.conv2d(x, weight, None, window.stride, pads, 1, window.groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        window = ctx.window
        dx = dweight = None
        if ctx.needs_input_grad[0]:
            dx, _ = _gradients(dy, x, weight, window, (True, False))
        if ctx.needs_input_grad[1]:
            channels, few, height, width = weight.shape
            merged = weight.new_empty(channels, MERGED, height, width)
            merged = merged.to(memory_format=torch.channels_last)
            larger = replace(window, groups=channels // MERGED)
            _, found = _gradients(dy, x, merged, larger, (False, True))
            many = MERGED // few
            blocks = found.view(larger.groups, many, few, many, few, height, width)
            own = blocks.diagonal(dim1=1, dim2=3).movedim(-1, 1)
            dweight = own.reshape(weight.shape).to(ctx.dtype)
        return dx, dweight, None


def _gradients(
    dy: Tensor, x: Tensor, weight: Tensor, window: Window, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Returns torch's input gradient and weight gradient, as far as `wanted` asks for them."""
    pads, steps = [window.top, window.left], [window.stride, window.stride]
    mask = [*wanted, False]
    dx, dweight, _ = torch.ops.aten.convolution_backward(
        dy, x, weight, None, steps, pads, [1, 1], False, [0, 0], window.groups, mask
    )
    return dx, dweight
