"""The augmentation pipeline: crop, flip, policy, colour jitter, cutout and random erasing.

All random numbers come from `forebear.data.augment.counter_rng`, so the view of an image depends
only on the seed, the epoch and the image. They are drawn in numpy and copied to the device without
synchronising with it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forebear.data.augment import crop
from forebear.data.augment.config import Augment
from forebear.data.augment.counter_rng import CounterRNG
from forebear.data.augment.crop import Numbers, Size, both, to_device
from forebear.data.augment.randaugment import randaugment, trivialaugment

# Rec. 601 luma, with which Pillow, torchvision and fb.resnet.torch (transforms.lua) compute grey.
_GREY = np.array([0.299, 0.587, 0.114])
# PCA of ImageNet's colours in 0..1, from fb.resnet.torch (datasets/imagenet.lua): eigenvalues, and
# one eigenvector per column for red, green and blue. Krizhevsky et al. 2012, section 4.1.
_COLOUR_VALUES = np.array([0.2175, 0.0188, 0.0045])
_COLOUR_DIRECTIONS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)


def augment(
    pixels: Tensor,
    size: Size,
    rule: Augment,
    draws: CounterRNG,
    *,
    window: Size | None = None,
    fill: tuple[float, ...] = (0.0, 0.0, 0.0),
) -> Tensor:
    """Returns an augmented view of each image, in 0..255, channels last in memory.

    As in fb.resnet.torch, the results of colour jitter and lighting are not clipped, so that
    values can leave 0..255.

    Args:
        pixels: uint8 [n, H, W, C] with C 3 (red, green, blue) or 1, on any device.
        size: Size of the views in pixels.
        rule: The augmentation to apply.
        draws: Random numbers of these n images, in the same order.
        window: Size in pixels of the crops "shift" and "middle", which are then resized to `size`;
            None: `size`.
        fill: Colour of erased areas and of RandAugment's padding, usually the mean colour, in
            0..255 for each channel of `pixels`.

    Returns:
        [n, H, W, C]. The dtype is float32 if colour jitter, lighting, cutout or random
        erasing is enabled, else uint8.
    """
    pixels = _cropped(pixels, both(size), rule, draws, both(window or size))
    if rule.policy == "randaugment":
        pixels = randaugment(
            pixels,
            draws,
            operations=rule.operations,
            magnitude=rule.magnitude,
            spread=rule.magnitude_std,
            fill=fill,
        )
    elif rule.policy == "trivialaugment":
        pixels = trivialaugment(pixels, draws)
    if rule.jitter or rule.lighting:
        pixels = _coloured(pixels, rule, draws)
    if rule.cutout:
        pixels = _blanked(pixels, crop.cutout_box(size, rule.cutout, draws), fill)
    if rule.random_erasing:
        pixels = _blanked(pixels, crop.erased_box(size, draws, rule.random_erasing), fill)
    return pixels


def resized_box(
    width: int | Numbers, height: int | Numbers, rule: Augment, draws: CounterRNG
) -> Numbers:
    """Returns the boxes that `augment` resizes: left, top, right and bottom in pixels, [n, 4]."""
    return crop.random_part(width, height, draws, scale=rule.crop_scale, ratio=rule.crop_ratio)


def _cropped(
    pixels: Tensor,
    size: tuple[int, int],
    rule: Augment,
    draws: CounterRNG,
    window: tuple[int, int],
) -> Tensor:
    mirror = crop.mirrored(rule.mirror, draws)
    height, width = pixels.shape[1:3]
    if rule.crop == "resized":
        boxes = resized_box(width, height, rule, draws)
        return crop.resized(pixels, boxes, mirror, size=size)
    if rule.crop == "middle":
        starts = np.tile([(height - window[0]) // 2, (width - window[1]) // 2], (len(draws), 1))
    else:
        sides = zip((height, width), window, draws.uniform("shift", 2).T, strict=True)
        starts = np.stack([crop.shifted(side, to, rule.shift, c) for side, to, c in sides], 1)
    squares = crop.cut(pixels, window, starts, mirror, border=rule.border)
    if window == size:
        return squares
    whole = np.tile([0, 0, window[1], window[0]], (len(draws), 1))
    return crop.resized(squares, whole, np.zeros(len(draws), np.bool_), size=size)


def _coloured(pixels: Tensor, rule: Augment, draws: CounterRNG) -> Tensor:
    """Applies brightness, contrast and saturation in random order, then lighting.

    Each operation is linear in the image's mean colour and in a pixel's difference from it. So is
    their composition, which the device computes as one matrix product.

    Returns:
        float32 [n, H, W, C].
    """
    count, channels = len(pixels), pixels.shape[3]
    pixel, mean = _jitters(channels, rule.jitter, draws)
    light = np.zeros((count, channels, 1))
    if channels == 3:
        noise = rule.lighting * draws.normal("lighting", 3) * _COLOUR_VALUES
        light[:, :, 0] = 255 * noise @ _COLOUR_DIRECTIONS.T
    numbers = np.concatenate([pixel, mean - pixel, light], 2).astype(np.float32)
    mixing = to_device(numbers, pixels.device)
    own, common, light_there = torch.split(mixing, [channels, channels, 1], 2)
    planes = pixels.permute(0, 3, 1, 2).float().reshape(count, channels, -1)
    shift = common @ planes.mean(2, keepdim=True) + light_there
    coloured = torch.baddbmm(shift, own, planes)  # twice as fast as pixel by pixel
    return coloured.view(count, channels, *pixels.shape[1:3]).permute(0, 2, 3, 1).contiguous()


def _jitters(
    channels: int, jitter: float, draws: CounterRNG
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the matrices [n, C, C] for a pixel's difference from the mean, and for the mean."""
    same = np.eye(channels)
    grey = np.tile(_GREY if channels == 3 else np.ones(1), (channels, 1))
    factors = 1 + jitter * (2 * draws.uniform("jitter", 3) - 1)
    order = draws.uniform("jitter order", 3).argsort(1)
    pixel, mean = (np.tile(same, (len(draws), 1, 1)) for _ in range(2))
    for turn in range(3):
        kind = order[:, turn, None, None]  # 0 is brightness, 1 contrast, 2 saturation
        factor = np.take_along_axis(factors, order[:, [turn]], 1)[:, :, None]
        scaled, greyed = factor * same, factor * same + (1 - factor) * grey
        pixel = np.where(kind == 2, greyed, scaled) @ pixel
        mean = np.where(kind == 0, scaled, greyed) @ mean
    return pixel, mean


def _blanked(pixels: Tensor, boxes: Numbers, fill: tuple[float, ...]) -> Tensor:
    """Returns float32 [n, H, W, C] with one rectangle of each image filled; boxes as in `crop`."""
    count, height, width, channels = pixels.shape
    left, top, right, bottom = to_device(boxes, pixels.device)[:, :, None].unbind(1)
    rows = torch.arange(height, device=pixels.device)
    columns = torch.arange(width * channels, device=pixels.device) // channels
    down, across = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    colour = to_device(np.tile(np.array(fill[:channels], np.float32), width), pixels.device)
    lines = pixels.reshape(count, height, -1)  # merging W and C is twice as fast
    return torch.where(down[:, :, None] & across[:, None], colour, lines).view(pixels.shape)
