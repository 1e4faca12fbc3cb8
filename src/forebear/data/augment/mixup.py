"""Pictures of a batch mixed with each other, their targets likewise: mixup and CutMix."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def mix(
    images: Tensor, targets: Tensor, mixup: float, cutmix: float, key: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """A batch mixed with itself in the opposite order, by one share for all.

    Zhang et al. 2017 and Yun et al. 2019, as timm's Mixup carries them out by batches; where both
    are wanted, each has every second batch, by chance. The share is a number on the host, so that
    nothing waits for the device.

    Args:
        images: [n, C, H, W], normalised.
        targets: [n, K], the share of each class.
        mixup: Alpha of the Beta distribution that whole pictures are blended by; 0: never.
        cutmix: Alpha of the Beta distribution of a rectangle's share; 0: never.
        key: What the chance hangs on: seed, epoch and step.

    Returns:
        New tensors, in the same layout in memory.
    """
    if not mixup and not cutmix:
        return images, targets
    random = np.random.default_rng(key)
    patched = random.random() < 0.5 if mixup and cutmix else bool(cutmix)
    alpha = cutmix if patched else mixup
    share = float(random.beta(alpha, alpha))  # of the picture that stays
    if patched:
        images, share = _patched(images, share, random)
    else:
        images = images.lerp(images.flip(0), 1 - share)
    return images, targets.lerp(targets.flip(0), 1 - share)


def _patched(images: Tensor, share: float, random: np.random.Generator) -> tuple[Tensor, float]:
    """A rectangle from the opposite picture, and the share of the area that stayed."""
    height, width = images.shape[2:]
    side = (1 - share) ** 0.5
    spans = []
    for length in (height, width):
        half, middle = int(length * side) // 2, int(random.integers(length))
        spans.append(slice(max(0, middle - half), min(length, middle + half)))
    rows, columns = spans
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[:, :, rows, columns].flip(0)
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, 1 - area / (height * width)  # less was cut at the border
