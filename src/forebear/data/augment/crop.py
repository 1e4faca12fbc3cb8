"""Random crops and horizontal flips: chosen in numpy on the host, applied on the device.

A whole batch is cropped and flipped at once. Nothing here synchronises with the device.
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
Size = int | tuple[int, int]  # pixels: the side of a square, or height and width

_ATTEMPTS = 10  # as in torchvision's RandomResizedCrop and RandomErasing


def to_device(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Copies the array to the device without synchronising with it."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def both(size: Size) -> tuple[int, int]:
    """Returns height and width in pixels."""
    return (size, size) if isinstance(size, int) else size


def mirrored(rule: Mirror, draws: CounterRNG) -> NDArray[np.bool_]:
    """Returns a mask [n] of the images to flip horizontally.

    "alternate" flips at random in the first epoch, and then inverts the choice in every epoch, so
    that any two successive epochs show both views (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds
    on a single GPU").
    """
    if rule == "none":
        return np.zeros(len(draws), np.bool_)
    if rule == "random":
        return draws.uniform("mirror") < 0.5
    first: NDArray[np.bool_] = draws.of_epoch(0).uniform("mirror") < 0.5
    return first ^ bool(draws.epoch % 2)


def shifted(side: int, window: int, shift: int, chances: NDArray[np.float64]) -> Numbers:
    """Returns the start of each crop along one side, in pixels.

    The starts cover the whole image, and at least `shift` pixels to each side of the centre crop.
    A crop that reaches beyond the image, such as one with a negative start, is padded.

    Args:
        side: Side of the image in pixels.
        window: Side of the crop in pixels.
        shift: Smallest range of the shift, to each side, in pixels.
        chances: Uniform random numbers in [0, 1), one per crop.
    """
    spare = side - window
    low, high = min(0, spare // 2 - shift), max(spare, (spare + 1) // 2 + shift)
    return low + (chances * (high - low + 1)).astype(np.int64)


def cut(
    pixels: Tensor, window: Size, starts: Numbers, mirror: NDArray[np.bool_], *, border: Border
) -> Tensor:
    """Returns a crop of `window` pixels from each image.

    Args:
        pixels: Images [n, H, W, C] of any dtype.
        window: Size of the crops in pixels.
        starts: First row and column of each crop, [n, 2]. They may lie outside the image.
        mirror: Mask [n] of the images to flip horizontally.
        border: Padding outside the image: "black" or "reflect".
    """
    count, height, width, channels = pixels.shape
    high, wide = both(window)
    spare = np.array([height - high, width - wide])
    if pixels.device.type == "cpu" and bool(np.all((starts >= 0) & (starts <= spare))):
        return _cut_one_by_one(pixels, (high, wide), starts, mirror)
    along = np.arange(wide)
    turned = np.where(mirror[:, None], along[::-1], along)
    rows = _inside(starts[:, :1] + np.arange(high), height, border)
    columns = _inside(starts[:, 1:] + turned, width, border)
    down, right = to_device(rows, pixels.device), to_device(columns, pixels.device)
    first = torch.arange(count, device=pixels.device)[:, None] * height
    places = (first + down.clamp_min(0))[:, :, None] * width + right.clamp_min(0)[:, None]
    squares = pixels.reshape(-1, channels).index_select(0, places.flatten())
    squares = squares.view(count, high, wide, channels)
    if rows.min(initial=0) < 0 or columns.min(initial=0) < 0:
        squares *= ((down >= 0)[:, :, None] & (right >= 0)[:, None])[..., None]
    return squares


def _cut_one_by_one(
    pixels: Tensor, window: tuple[int, int], starts: Numbers, mirror: NDArray[np.bool_]
) -> Tensor:
    # Copying slices takes a sixth of the time of indexing, at 128 pixels.
    squares = pixels.new_empty(len(pixels), *window, pixels.shape[3])
    for row, (top, left) in enumerate(starts.tolist()):
        square = pixels[row, top : top + window[0], left : left + window[1]]
        squares[row] = square.flip(1) if mirror[row] else square
    return squares


def _inside(places: Numbers, side: int, border: Border) -> Numbers:
    """Maps positions along a side to pixels of the image, or to -1 for black padding."""
    if border == "black":
        return np.where((places >= 0) & (places < side), places, -1)
    along = places % max(1, 2 * (side - 1))  # back and forth, without repeating the edge pixels
    return side - 1 - np.abs(side - 1 - along)


def random_part(
    width: int | Numbers,
    height: int | Numbers,
    draws: CounterRNG,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Numbers:
    """Returns random boxes to resize: left, top, right and bottom in pixels, [n, 4].

    This is the method of torchvision's RandomResizedCrop (Szegedy et al. 2014, section 6). The
    fraction of the area is uniform in `scale`, and the aspect ratio log-uniform in `ratio`. After
    ten attempts that do not fit, the result is the largest centre crop with an aspect ratio in the
    range.

    Args:
        width: Width of the images in pixels, one number or [n].
        height: Height of the images in pixels, one number or [n].
        draws: Random numbers of the n images.
        scale: Smallest and largest fraction of the area.
        ratio: Smallest and largest aspect ratio, width / height.
    """
    sides = np.stack(np.broadcast_arrays(width, height, draws.samples)[:2], 1)
    tried, fits = _attempts(sides, draws, "crop", scale=scale, ratio=ratio)
    chosen = np.where(fits[:, None], tried, _largest(sides, ratio))
    spare = sides - chosen
    moved = (draws.uniform("crop place", 2) * (spare + 1)).astype(np.int64)
    start = np.where(fits[:, None], moved, spare // 2)
    return np.concatenate([start, start + chosen], 1)


def erased_box(size: Size, draws: CounterRNG, probability: float) -> Numbers:
    """Returns rectangles to erase at random: left, top, right, bottom, [n, 4].

    The method is that of Zhong et al. 2017, "Random erasing data augmentation", with the ranges of
    torchvision's RandomErasing: 0.02 to 0.33 of the area, and height / width from 0.3 to 3.3. A
    row is all 0 if nothing is erased.

    Args:
        size: Size of the images in pixels.
        draws: Random numbers of the n images.
        probability: Probability that an image gets a rectangle.
    """
    height, width = both(size)
    sides = np.tile([width, height], (len(draws), 1))
    # Like torchvision, reject a rectangle that is as high or as wide as the image.
    tried, fits = _attempts(
        sides - 1,
        draws,
        "erase",
        scale=(0.02, 0.33),
        ratio=(1 / 3.3, 1 / 0.3),
        area=height * width,
    )
    start = (draws.uniform("erase place", 2) * (sides - tried + 1)).astype(np.int64)
    boxes = np.concatenate([start, start + tried], 1)
    return boxes * (fits & (draws.uniform("erase at all") < probability))[:, None]


def cutout_box(size: Size, cutout: int, draws: CounterRNG) -> Numbers:
    """Returns squares of cutout x cutout pixels to blank: left, top, right, bottom, [n, 4].

    The centre can be any pixel of the image. Squares are clipped at the border, so that some are
    smaller (DeVries and Taylor 2017).
    """
    sides = np.array(both(size)[::-1])
    start = (draws.uniform("cutout", 2) * sides).astype(np.int64) - cutout // 2
    return np.concatenate([start, start + cutout], 1).clip(0, np.tile(sides, 2))


def _attempts(
    sides: Numbers,
    draws: CounterRNG,
    what: str,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    area: int | None = None,
) -> tuple[Numbers, NDArray[np.bool_]]:
    """Returns width and height [n, 2] of the first attempt that fits, and a mask [n] of success.

    An attempt fits if it lies within `sides` [n, 2].
    """
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
    """Returns width and height [n, 2] of the largest boxes whose aspect ratio is in the range."""
    width, height = sides.T
    least, most = ratio
    return np.stack(
        [
            np.where(width > height * most, np.rint(height * most), width),
            np.where(width < height * least, np.rint(width / least), height),
        ],
        1,
    ).astype(np.int64)


def resized(pixels: Tensor, boxes: Numbers, mirror: NDArray[np.bool_], *, size: Size) -> Tensor:
    """Resizes a box of each image to `size`, bilinearly with antialiasing, as Pillow does.

    The result equals that of Pillow for the cropped box: exactly on the CPU, to within 1 on other
    devices.

    Args:
        pixels: Images, uint8 [n, H, W, C].
        boxes: Left, top, right and bottom in pixels, [n, 4].
        mirror: Mask [n] of the images to flip horizontally.
        size: Size of the result in pixels.

    Returns:
        uint8 [n, H, W, C].
    """
    if pixels.device.type == "cpu":
        return _resized_one_by_one(pixels, boxes, mirror, both(size))
    dtype = torch.float16 if pixels.device.type == "cuda" else torch.float32
    return resized_at_once(pixels, boxes, mirror, size=size, dtype=dtype)


def _resized_one_by_one(
    pixels: Tensor, boxes: Numbers, mirror: NDArray[np.bool_], size: tuple[int, int]
) -> Tensor:
    # torch's uint8 kernel takes 0.035 ms from 160 to 128 pixels; matrix products in bf16 0.2 ms.
    squares = pixels.new_empty(len(pixels), *size, pixels.shape[3])
    planes = pixels.permute(0, 3, 1, 2)
    for row, (left, top, right, bottom) in enumerate(boxes.tolist()):
        part = planes[row : row + 1, :, top:bottom, left:right]
        square = F.interpolate(part, size, mode="bilinear", antialias=True)[0]
        squares[row] = (square.flip(2) if mirror[row] else square).permute(1, 2, 0)
    return squares


def resized_at_once(
    pixels: Tensor, boxes: Numbers, mirror: NDArray[np.bool_], *, size: Size, dtype: torch.dtype
) -> Tensor:
    """Computes `resized` for all boxes at once, as two batched matrix products in `dtype`."""
    count, height, width, channels = pixels.shape
    high, wide = both(size)
    values = np.concatenate([boxes, mirror[:, None]], 1).astype(np.float32)
    left, top, right, bottom, turned = to_device(values, pixels.device).T
    across = _weights(left, right, width, wide)
    across = torch.where(turned[:, None, None] > 0, across.flip(1), across).to(dtype)
    down = _weights(top, bottom, height, high).to(dtype)
    lines = pixels.to(dtype).view(count, height, width * channels)
    # [n, W C, high] can be viewed as [n, W, C high] without a copy.
    lines = torch.bmm(lines.transpose(1, 2), down.transpose(1, 2)).view(count, width, -1)
    squares = torch.bmm(lines.transpose(1, 2), across.transpose(1, 2))
    squares = squares.round_().clamp_(0, 255).to(torch.uint8)
    return squares.view(count, channels, high, wide).permute(0, 2, 3, 1).contiguous()


def _weights(low: Tensor, high: Tensor, side: int, size: int) -> Tensor:
    """Returns the weights [n, size, side] of the input pixels in each output pixel along a side.

    The filter is a triangle. Its half-width is the step between output pixels, in input pixels,
    and at least 1.
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
