"""Mixup and CutMix: images of a batch are mixed with each other, and so are their targets."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def mix(
    images: Tensor, targets: Tensor, mixup: float, cutmix: float, key: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Mixes a batch with itself in reverse order, with one mixing weight for all images.

    Mixup is that of Zhang et al. 2017 and CutMix that of Yun et al. 2019, both in the batch mode of
    timm's Mixup. If both are enabled, each batch uses one of them, with probability 1/2 each. The
    mixing weight is a number on the host, so that nothing synchronises with the device.

    Args:
        images: [n, C, H, W], normalised.
        targets: [n, K], class probabilities.
        mixup: Alpha of the Beta distribution of mixup's blending weight; 0 disables mixup.
        cutmix: Alpha of the Beta distribution of CutMix's area; 0 disables CutMix.
        key: Key of the random numbers: seed, epoch and step.

    Returns:
        New images and targets, with the same memory layout.
    """
    if not mixup and not cutmix:
        return images, targets
    random = np.random.default_rng(key)
    patched = random.random() < 0.5 if mixup and cutmix else bool(cutmix)
    alpha = cutmix if patched else mixup
    weight = float(random.beta(alpha, alpha))  # of the original image
    if patched:
        images, weight = _patched(images, weight, random)
    else:
        images = images.lerp(images.flip(0), 1 - weight)
    return images, targets.lerp(targets.flip(0), 1 - weight)


def _patched(images: Tensor, weight: float, random: np.random.Generator) -> tuple[Tensor, float]:
    """Pastes a rectangle from the partner image, and returns the fraction of area that is left."""
    height, width = images.shape[2:]
    side = (1 - weight) ** 0.5
    spans = []
    for length in (height, width):
        half, middle = int(length * side) // 2, int(random.integers(length))
        spans.append(slice(max(0, middle - half), min(length, middle + half)))
    rows, columns = spans
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[:, :, rows, columns].flip(0)
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, 1 - area / (height * width)  # the rectangle can be clipped at the border
