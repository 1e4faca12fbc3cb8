"""RandAugment and TrivialAugment for whole batches on the device.

Each image draws its own operation. Images with the same operation are processed together, and the
results match those of Pillow. All random choices are made on the host, so that nothing synchronises
with the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from forebear.data.augment.counter_rng import CounterRNG
from forebear.data.augment.crop import Numbers, to_device

Floats = NDArray[np.float64]
Fill = tuple[float, ...]  # 0..255 for each channel


def randaugment(
    pixels: Tensor,
    draws: CounterRNG,
    *,
    operations: int,
    magnitude: float,
    spread: float,
    fill: Fill,
) -> Tensor:
    """Applies RandAugment: several random operations per image, each with probability 1/2.

    This is Cubuk et al. 2019 in timm's version (auto_augment.py, "rand-m9-mstd0.5-inc1"): 15
    operations whose strength increases with the magnitude. The only difference is that all
    interpolation is bilinear; timm uses bicubic for half of it.

    Args:
        pixels: uint8 [n, H, W, C], C 3 or 1.
        draws: Random numbers of these n images.
        operations: Number of operations, applied one after the other.
        magnitude: Mean magnitude, 0 to 10.
        spread: Standard deviation of the magnitude.
        fill: Colour of pixels outside the image.
    """
    for turn in range(operations):
        kinds = draws.integers(f"operation {turn}", len(_RANDAUGMENT))
        levels = magnitude + spread * draws.normal(f"magnitude {turn}")
        signed = _Level(levels.clip(0, 10) / 10, _signs(draws, turn), pixels.shape[2])
        applied = draws.uniform(f"applied {turn}") < 0.5
        pixels = _carried_out(pixels, _RANDAUGMENT, np.where(applied, kinds, -1), signed, fill)
    return pixels


def trivialaugment(pixels: Tensor, draws: CounterRNG) -> Tensor:
    """Applies TrivialAugment: one random operation per image with a random magnitude.

    This is Mueller and Hutter 2021 with the wide ranges of torchvision's TrivialAugmentWide: 14
    operations, 31 magnitudes. Pixels outside the image are black.

    Args:
        pixels: uint8 [n, H, W, C], C 3 or 1.
        draws: Random numbers of these n images.
    """
    kinds = draws.integers("operation 0", len(_TRIVIALAUGMENT) + 1)  # the last is the identity
    kinds = np.where(kinds < len(_TRIVIALAUGMENT), kinds, -1)
    levels = draws.integers("magnitude 0", 31) / 30
    signed = _Level(levels, _signs(draws, 0), pixels.shape[2])
    return _carried_out(pixels, _TRIVIALAUGMENT, kinds, signed, (0.0,) * pixels.shape[3])


def _signs(draws: CounterRNG, turn: int) -> Floats:
    return np.where(draws.uniform(f"sign {turn}") < 0.5, -1.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """The strength of the operations for n images."""

    fraction: Floats  # [n], fraction of the largest strength, 0..1
    sign: Floats  # [n], -1 or 1
    width: int  # side of the square images in pixels

    @property
    def signed(self) -> Floats:
        return self.fraction * self.sign

    def take(self, which: Numbers) -> _Level:
        return _Level(self.fraction[which], self.sign[which], self.width)


def autocontrast(pixels: Tensor) -> Tensor:
    """Stretches each channel to 0..255, like ImageOps.autocontrast."""
    low, high = (edge.double() for edge in pixels.flatten(1, 2).aminmax(dim=1))  # [n, C]
    scale = torch.full_like(low, 255) / (high - low)  # torch computes 255 / x as 255 * (1 / x)
    places = torch.arange(256, device=pixels.device)
    table = places * scale[..., None] - (low * scale)[..., None]
    table = torch.where((high > low)[..., None], table, places)
    return _looked_up(pixels, table)


def equalize(pixels: Tensor) -> Tensor:
    """Equalises the histogram of each channel, like ImageOps.equalize."""
    count, _, _, channels = pixels.shape
    planes = _planes(pixels).long()
    ones = torch.ones_like(planes)
    bars = torch.zeros(count, channels, 256, dtype=torch.long, device=pixels.device)
    bars = bars.scatter_add_(2, planes, ones)
    places = torch.arange(256, device=pixels.device)
    last = ((bars > 0) * places).argmax(2, keepdim=True)
    step = (bars.sum(2, keepdim=True) - bars.gather(2, last)) // 255
    below = bars.cumsum(2) - bars
    table = (below + step // 2) // step.clamp_min(1)
    return _looked_up(pixels, torch.where(step > 0, table, places))


def _looked_up(pixels: Tensor, table: Tensor) -> Tensor:
    """Maps every value through a lookup table [n, C, 256], whose entries are truncated."""
    values = table.clamp(0, 255).to(torch.uint8).gather(2, _planes(pixels).long())
    count, height, width, channels = pixels.shape
    return values.view(count, channels, height, width).permute(0, 2, 3, 1)


def _planes(pixels: Tensor) -> Tensor:
    """Returns the pixels as [n, C, H W]."""
    return pixels.permute(0, 3, 1, 2).flatten(2)


def invert(pixels: Tensor) -> Tensor:
    """Returns the negative image."""
    return 255 - pixels


def posterize(pixels: Tensor, bits: Tensor) -> Tensor:
    """Keeps only the highest `bits` [n, 1, 1, 1] of the 8 bits."""
    kept = 256 - torch.exp2(8 - bits)
    return pixels & kept.to(torch.uint8)


def solarize(pixels: Tensor, threshold: Tensor) -> Tensor:
    """Inverts all values at or above the threshold; a threshold of 256 changes nothing."""
    least = threshold.ceil().clamp(0, 255).to(torch.uint8)
    chosen = (pixels >= least) & (threshold <= 255)
    return pixels ^ chosen.to(torch.uint8).neg_()  # -1 as uint8 is 255; torch.where is slower


def solarize_add(pixels: Tensor, addition: Tensor) -> Tensor:
    """Adds to all values below 128. An addition of at most 127 cannot overflow a byte."""
    return pixels + (pixels < 128) * addition.to(torch.uint8)


def color(pixels: Tensor, factor: Tensor) -> Tensor:
    """Scales the saturation, like ImageEnhance.Color."""
    return _blend(_grey(pixels), pixels, factor)


def contrast(pixels: Tensor, factor: Tensor) -> Tensor:
    """Scales the difference from the mean grey, like ImageEnhance.Contrast."""
    mean = _grey(pixels).float().mean((1, 2, 3), keepdim=True)
    return _blend((mean + 0.5).floor(), pixels, factor)


def brightness(pixels: Tensor, factor: Tensor) -> Tensor:
    """Scales the brightness, like ImageEnhance.Brightness."""
    return _blend(torch.zeros((), device=pixels.device), pixels, factor)


def sharpness(pixels: Tensor, factor: Tensor) -> Tensor:
    """Scales the difference from a smoothed image, like ImageEnhance.Sharpness.

    Pixels at the edge of the image are not smoothed, and so do not change.
    """
    own = pixels.float()
    rows = own[:, :-2] + own[:, 1:-1] + own[:, 2:]
    around = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]  # pooling is slower
    smooth = own.clone()
    inside = smooth[:, 1:-1, 1:-1]
    inside.mul_(4).add_(around).div_(13).add_(0.5).floor_()
    return _blend(smooth, pixels, factor)


def _grey(pixels: Tensor) -> Tensor:
    """Returns int32 [n, H, W, 1] as Pillow's convert("L"): Rec. 601 luma in 16-bit fixed point."""
    if pixels.shape[3] == 1:
        return pixels.int()
    red, green, blue = pixels.int().unbind(3)
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16)[..., None]


def _blend(far: Tensor, pixels: Tensor, factor: Tensor) -> Tensor:
    """Blends like Image.blend, truncating: factor 0 gives `far`, 1 gives the image."""
    far = far.float()
    return (far + factor * (pixels.float() - far)).clamp_(0, 255).to(torch.uint8)


def affine(pixels: Tensor, matrix: Tensor, fill: Tensor) -> Tensor:
    """Applies affine transforms, like Image.transform with AFFINE and BILINEAR.

    Args:
        pixels: uint8 [n, H, W, C].
        matrix: [n, 2, 3], from positions in the output to positions in the input.
        fill: [C], colour of pixels outside the image.
    """
    height, width = pixels.shape[1:3]
    across, down = (torch.arange(n, device=pixels.device) + 0.5 for n in (width, height))
    x, y = (
        (row[:, :1] * across + row[:, 2:])[:, None] + (row[:, 1:2] * down)[:, :, None]
        for row in matrix.unbind(1)
    )
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    grid = torch.stack([x.mul_(2 / width).sub_(1), y.mul_(2 / height).sub_(1)], 3)
    planes = pixels.permute(0, 3, 1, 2).float()
    seen = F.grid_sample(planes, grid, padding_mode="border", align_corners=False)
    seen = torch.where(inside[:, None], seen, fill[:, None, None])
    return seen.to(torch.uint8).permute(0, 2, 3, 1)


def _turned(degrees: Floats, width: int) -> Floats:
    """Returns matrices [n, 2, 3] of rotations around the centre."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    middle = width / 2
    rows = [[cos, -sin, middle * (1 - cos + sin)], [sin, cos, middle * (1 - cos - sin)]]
    return np.stack([np.stack(row, 1) for row in rows], 1)


def _moved(row: int, column: int, values: Floats) -> Floats:
    """Returns identity matrices [n, 2, 3] with one entry replaced by `values` [n]."""
    matrices = np.tile(np.eye(2, 3), (len(values), 1, 1))
    matrices[:, row, column] = values
    return matrices


_Run = Callable[[Tensor, Tensor, Tensor], Tensor]  # from pixels, parameters per image, and fill


@dataclass(frozen=True, slots=True)
class _Operation:
    """An operation, and its parameters for given levels: matrices [n, 2, 3] or [n, 1, 1]."""

    run: _Run
    takes: Callable[[_Level], Floats] = lambda level: np.zeros((len(level.fraction), 1, 1))


def _plain(operation: Callable[[Tensor], Tensor]) -> _Operation:
    return _Operation(lambda pixels, values, fill: operation(pixels))


def _by(
    operation: Callable[[Tensor, Tensor], Tensor], takes: Callable[[_Level], Floats]
) -> _Operation:
    return _Operation(
        lambda pixels, values, fill: operation(pixels, values[:, :1, :1, None]),
        lambda level: takes(level)[:, None, None],
    )


def _factor(level: _Level) -> Floats:
    return np.maximum(0.1, 1 + 0.9 * level.signed)


def _wide_factor(level: _Level) -> Floats:
    return 1 + 0.99 * level.signed


_RANDAUGMENT = (
    _plain(autocontrast),
    _plain(equalize),
    _plain(invert),
    _by(posterize, lambda level: 4 - np.floor(4 * level.fraction)),
    _by(solarize, lambda level: 256 - np.floor(256 * level.fraction)),
    _by(solarize_add, lambda level: np.floor(110 * level.fraction)),
    _by(color, _factor),
    _by(contrast, _factor),
    _by(brightness, _factor),
    _by(sharpness, _factor),
    _Operation(affine, lambda level: _turned(30 * level.signed, level.width)),
    _Operation(affine, lambda level: _moved(0, 1, 0.3 * level.signed)),
    _Operation(affine, lambda level: _moved(1, 0, 0.3 * level.signed)),
    _Operation(affine, lambda level: _moved(0, 2, 0.45 * level.width * level.signed)),
    _Operation(affine, lambda level: _moved(1, 2, 0.45 * level.width * level.signed)),
)
_TRIVIALAUGMENT = (
    _plain(autocontrast),
    _plain(equalize),
    _by(posterize, lambda level: 8 - np.rint(6 * level.fraction)),
    _by(solarize, lambda level: 255 - 255 * level.fraction),
    _by(color, _wide_factor),
    _by(contrast, _wide_factor),
    _by(brightness, _wide_factor),
    _by(sharpness, _wide_factor),
    _Operation(affine, lambda level: _turned(135 * level.signed, level.width)),
    _Operation(affine, lambda level: _moved(0, 1, 0.99 * level.signed)),
    _Operation(affine, lambda level: _moved(1, 0, 0.99 * level.signed)),
    _Operation(affine, lambda level: _moved(0, 2, np.trunc(32 * level.signed))),
    _Operation(affine, lambda level: _moved(1, 2, np.trunc(32 * level.signed))),
)


def _carried_out(
    pixels: Tensor, operations: tuple[_Operation, ...], kinds: Numbers, level: _Level, fill: Fill
) -> Tensor:
    """Applies one operation to each image. The kind -1 leaves the image unchanged.

    All affine operations run as one call.
    """
    runs = list(dict.fromkeys(operation.run for operation in operations))
    run_of = np.full(len(kinds), -1)
    taken = np.zeros((len(kinds), 2, 3))
    for kind, operation in enumerate(operations):
        which = np.flatnonzero(kinds == kind)
        run_of[which] = runs.index(operation.run)
        taken[which] = operation.takes(level.take(which))
    order = run_of.argsort(kind="stable")
    counts = np.bincount(run_of + 1, minlength=len(runs) + 1).tolist()
    places = to_device(order, pixels.device)
    values = to_device(taken[order].astype(np.float32), pixels.device)
    outside = to_device(np.rint(fill[: pixels.shape[3]]).astype(np.float32), pixels.device)
    same, *parts = torch.split(pixels.index_select(0, places), counts)
    _, *theirs = torch.split(values, counts)
    done = [
        run(part, value, outside)
        for run, part, value in zip(runs, parts, theirs, strict=True)
        if len(part)
    ]
    return torch.empty_like(pixels).index_copy_(0, places, torch.cat([same, *done]))
