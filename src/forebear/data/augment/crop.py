"""Which part of a picture a network sees: chosen by chance in numpy, cut out on the device.

A batch is cut as one and mirrored on the way; nothing here waits for the device.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from forebear.data.augment.config import Border, Mirror
from forebear.data.augment.counter_rng import CounterRNG

Numbers = NDArray[np.int64]

_ATTEMPTS = 10  # torchvision's RandomResizedCrop and RandomErasing both give up after ten


def to_device(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """The array as a tensor there, without waiting for the device."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def mirrored(rule: Mirror, draws: CounterRNG) -> NDArray[np.bool_]:
    """[n], True where left and right change places.

    "alternate": by chance at first, then the other way from each epoch to the next, so that any
    two in a row show both (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU").
    """
    if rule == "none":
        return np.zeros(len(draws), np.bool_)
    if rule == "random":
        return draws.uniform("mirror") < 0.5
    first: NDArray[np.bool_] = draws.of_epoch(0).uniform("mirror") < 0.5
    return first ^ bool(draws.epoch % 2)


def shifted(side: int, window: int, shift: int, chances: NDArray[np.float64]) -> Numbers:
    """Where windows start along a side, in pixels: less than 0 or past the end is border.

    They reach all of the picture, and `shift` pixels to both sides of its middle at least.

    Args:
        side: Pixels of the picture.
        window: Pixels to cut.
        shift: Pixels.
        chances: From 0 up to 1, one a window.
    """
    spare = side - window
    low, high = min(0, spare // 2 - shift), max(spare, (spare + 1) // 2 + shift)
    return low + (chances * (high - low + 1)).astype(np.int64)


def cut(
    pixels: Tensor, window: int, starts: Numbers, mirror: NDArray[np.bool_], *, border: Border
) -> Tensor:
    """A square of `window` pixels out of each picture [n, H, W, C].

    Args:
        pixels: Of any type.
        window: Pixels.
        starts: First row and column of each square, [n, 2]; what lies outside is border.
        mirror: [n], True where left and right change places.
        border: What the outside shows.
    """
    count, height, width, channels = pixels.shape
    spare = np.array([height, width]) - window
    if pixels.device.type == "cpu" and bool(np.all((starts >= 0) & (starts <= spare))):
        return _cut_one_by_one(pixels, window, starts, mirror)
    along = np.arange(window)
    turned = np.where(mirror[:, None], along[::-1], along)
    rows = _inside(starts[:, :1] + along, height, border)
    columns = _inside(starts[:, 1:] + turned, width, border)
    down, right = to_device(np.stack([rows, columns]), pixels.device)
    first = torch.arange(count, device=pixels.device)[:, None] * height
    places = (first + down.clamp_min(0))[:, :, None] * width + right.clamp_min(0)[:, None]
    squares = pixels.reshape(-1, channels).index_select(0, places.flatten())
    squares = squares.view(count, window, window, channels)
    if rows.min(initial=0) < 0 or columns.min(initial=0) < 0:
        squares *= ((down >= 0)[:, :, None] & (right >= 0)[:, None])[..., None]
    return squares


def _cut_one_by_one(
    pixels: Tensor, window: int, starts: Numbers, mirror: NDArray[np.bool_]
) -> Tensor:
    # A copy of slices: a sixth of the time of an index, at 128 pixels.
    squares = pixels.new_empty(len(pixels), window, window, pixels.shape[3])
    for row, (top, left) in enumerate(starts.tolist()):
        square = pixels[row, top : top + window, left : left + window]
        squares[row] = square.flip(1) if mirror[row] else square
    return squares


def _inside(places: Numbers, side: int, border: Border) -> Numbers:
    """Places along a side as pixels of the picture; -1 for black ones."""
    if border == "black":
        return np.where((places >= 0) & (places < side), places, -1)
    along = places % max(1, 2 * (side - 1))  # there and back, the edges once
    return side - 1 - np.abs(side - 1 - along)


def random_part(
    width: int | Numbers,
    height: int | Numbers,
    draws: CounterRNG,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Numbers:
    """Random parts of pictures, to be resized: left, top, right and bottom in pixels, [n, 4].

    As torchvision's RandomResizedCrop has it: a share of the area from `scale` and a width to
    height from `ratio` on a logarithmic scale; after ten that do not fit, the largest middle part
    of a ratio within the range (Szegedy et al. 2014, section 6).

    Args:
        width: Of the pictures in pixels, one or [n].
        height: Likewise.
        draws: Of the n pictures.
        scale: The least and the greatest share of the area.
        ratio: The least and the greatest width to height.
    """
    sides = np.stack(np.broadcast_arrays(width, height, draws.samples)[:2], 1)
    tried, fits = _attempts(sides, draws, "crop", scale=scale, ratio=ratio)
    chosen = np.where(fits[:, None], tried, _largest(sides, ratio))
    spare = sides - chosen
    moved = (draws.uniform("crop place", 2) * (spare + 1)).astype(np.int64)
    start = np.where(fits[:, None], moved, spare // 2)
    return np.concatenate([start, start + chosen], 1)


def erased_box(side: int, draws: CounterRNG, share: float) -> Numbers:
    """Rectangles to blank in a share of the pictures: left, top, right, bottom, [n, 4].

    Zhong et al. 2017, "Random erasing data augmentation", with the ranges that torchvision's
    RandomErasing has: 0.02 to 0.33 of the area, a height to width of 0.3 to 3.3. None is all 0.
    """
    sides = np.full((len(draws), 2), side)
    # As high as wide is never drawn: a rectangle of the full side would be refused.
    tried, fits = _attempts(
        sides - 1, draws, "erase", scale=(0.02, 0.33), ratio=(1 / 3.3, 1 / 0.3), area=side * side
    )
    start = (draws.uniform("erase place", 2) * (sides - tried + 1)).astype(np.int64)
    boxes = np.concatenate([start, start + tried], 1)
    return boxes * (fits & (draws.uniform("erase at all") < share))[:, None]


def cutout_box(side: int, cutout: int, draws: CounterRNG) -> Numbers:
    """Squares of `cutout` pixels to blank around any pixel: left, top, right, bottom, [n, 4].

    Clipped at the border, as DeVries and Taylor 2017 do, so that some are smaller.
    """
    start = draws.integers("cutout", side, 2) - cutout // 2
    return np.concatenate([start, start + cutout], 1).clip(0, side)


def _attempts(
    sides: Numbers,
    draws: CounterRNG,
    what: str,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    area: int | None = None,
) -> tuple[Numbers, NDArray[np.bool_]]:
    """Widths and heights [n, 2] of the first attempt within `sides` [n, 2], and where one was."""
    chances = draws.uniform(what, 2 * _ATTEMPTS)
    whole = sides.prod(1) if area is None else np.full(len(sides), area)
    areas = whole[:, None] * (scale[0] + (scale[1] - scale[0]) * chances[:, ::2])
    logs = np.log(ratio)
    ratios = np.exp(logs[0] + (logs[1] - logs[0]) * chances[:, 1::2])
    tried = np.rint(np.sqrt(np.stack([areas * ratios, areas / ratios], 2))).astype(np.int64)
    fits = ((tried > 0) & (tried <= sides[:, None])).all(2)
    first = fits.argmax(1)
    return tried[np.arange(len(sides)), first], fits.any(1)


def _largest(sides: Numbers, ratio: tuple[float, float]) -> Numbers:
    """Widths and heights of the largest parts whose ratio is in the range, [n, 2]."""
    width, height = sides.T
    least, most = ratio
    return np.stack(
        [
            np.where(width > height * most, np.rint(height * most), width),
            np.where(width < height * least, np.rint(width / least), height),
        ],
        1,
    ).astype(np.int64)


def resized(pixels: Tensor, boxes: Numbers, mirror: NDArray[np.bool_], *, size: int) -> Tensor:
    """Parts of pictures as squares, bilinear and antialiased as Pillow resizes a part cut out.

    On the processor, to the bit; elsewhere within 1.

    Args:
        pixels: uint8 [n, H, W, C].
        boxes: Left, top, right and bottom in pixels, [n, 4].
        mirror: [n], True where left and right change places.
        size: Pixels, of the squares' sides.

    Returns:
        uint8 [n, size, size, C].
    """
    if pixels.device.type == "cpu":
        return _resized_one_by_one(pixels, boxes, mirror, size)
    dtype = torch.float16 if pixels.device.type == "cuda" else torch.float32
    return resized_at_once(pixels, boxes, mirror, size=size, dtype=dtype)


def _resized_one_by_one(
    pixels: Tensor, boxes: Numbers, mirror: NDArray[np.bool_], size: int
) -> Tensor:
    # torch's uint8 kernel: 0.035 ms from 160 to 128 pixels, where products take 0.2 ms in bf16.
    squares = pixels.new_empty(len(pixels), size, size, pixels.shape[3])
    planes = pixels.permute(0, 3, 1, 2)
    for row, (left, top, right, bottom) in enumerate(boxes.tolist()):
        part = planes[row : row + 1, :, top:bottom, left:right]
        square = F.interpolate(part, (size, size), mode="bilinear", antialias=True)[0]
        squares[row] = (square.flip(2) if mirror[row] else square).permute(1, 2, 0)
    return squares


def resized_at_once(
    pixels: Tensor, boxes: Numbers, mirror: NDArray[np.bool_], *, size: int, dtype: torch.dtype
) -> Tensor:
    """As `resized`, in two batched products of type `dtype`, whatever the boxes."""
    count, height, width, channels = pixels.shape
    values = np.concatenate([boxes, mirror[:, None]], 1).astype(np.float32)
    left, top, right, bottom, turned = to_device(values, pixels.device).T
    across = _weights(left, right, width, size)
    across = torch.where(turned[:, None, None] > 0, across.flip(1), across).to(dtype)
    down = _weights(top, bottom, height, size).to(dtype)
    lines = pixels.to(dtype).view(count, height, width * channels)
    # [n, W C, size], whose first axis splits without a copy: [n, W, C size].
    lines = torch.bmm(lines.transpose(1, 2), down.transpose(1, 2)).view(count, width, -1)
    squares = torch.bmm(lines.transpose(1, 2), across.transpose(1, 2))
    squares = squares.round_().clamp_(0, 255).to(torch.uint8)
    return squares.view(count, channels, size, size).permute(0, 2, 3, 1).contiguous()


def _weights(low: Tensor, high: Tensor, side: int, size: int) -> Tensor:
    """What each pixel of a side adds to each of `size` places between two edges, [n, size, side].

    A triangle as wide as the step from place to place, at least one pixel to each side.
    """
    step = ((high - low) / size)[:, None]
    reach = step.clamp_min(1)
    places = torch.arange(size, device=low.device) + 0.5
    centres = low[:, None] + places * step
    pixels = torch.arange(side, device=low.device) + 0.5
    inside = (pixels > low[:, None]) & (pixels < high[:, None])
    away = (centres[:, :, None] - pixels).abs_() / reach[:, :, None]
    weights = (1 - away).clamp_min_(0) * inside[:, None]
    return weights / weights.sum(2, keepdim=True)
