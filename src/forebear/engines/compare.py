"""Compares engines: images to compare on, and how far two sets of logits are apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from forebear.data.images.bands import COMMON, AnyImage


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the logits of an engine are from those of the network."""

    largest: float  # of a logit, relative to the largest logit; infinite if one is not finite
    same_class: int  # images with the same most probable class
    images: int

    def within(self, tolerance: float, least: float = 1.0) -> bool:
        """Whether the logits are close enough.

        Args:
            tolerance: Largest difference, relative to the largest logit.
            least: Share of the images that must have the same class, 0 to 1.
        """
        return self.largest <= tolerance and self.same_class >= least * self.images


def difference(found: NDArray[Any], wanted: NDArray[Any], tie: float = 0.0) -> Difference:
    """Returns how far two sets of logits are apart, [N, classes] or [N, classes, h, w].

    Args:
        found: Of an engine.
        wanted: Of the network.
        tie: Two wanted logits of an image that are nearer to each other than this, relative to the
            largest logit of all, may change places without counting as another class.

    Raises:
        ValueError: The shapes differ.
    """
    if found.shape != wanted.shape:
        raise ValueError(f"logits {list(found.shape)} instead of {list(wanted.shape)}")
    gaps = np.abs(found - wanted)
    if not np.isfinite(found).all():
        return Difference(float("inf"), 0, len(found))
    ours, theirs = (one.reshape(len(one), one.shape[1], -1).mean(2) for one in (found, wanted))
    chosen = np.take_along_axis(theirs, ours.argmax(1)[:, None], 1)[:, 0]
    scale = max(float(np.abs(wanted).max()), 1e-30)
    same = int((theirs.max(1) - chosen <= tie * scale).sum())
    return Difference(float(gaps.max()) / scale, same, len(found))


def synthetic_images(count: int, side: int, seed: int = 0, channels: int = 3) -> list[AnyImage]:
    """Returns images with the spectrum of photographs, in colour if there are 1 or 3 channels.

    They stand in for photographs where there are none. The amplitude of natural images falls with
    about the first power of the spatial frequency: Field 1987, "Relations between the statistics of
    natural images and the response properties of cortical cells", figure 7.
    """
    draws = np.random.default_rng(seed)
    across = np.fft.fftfreq(side)[:, None] ** 2 + np.fft.rfftfreq(side)[None, :] ** 2
    falls = 1 / np.sqrt(np.maximum(across, 1 / side**2))
    arrays = [_planes(draws, falls, side, max(channels, 3)) for _ in range(count)]
    if channels in COMMON:
        return [Image.fromarray(array) for array in arrays]
    return [array[:, :, :channels] for array in arrays]


def _planes(
    draws: np.random.Generator, falls: NDArray[Any], side: int, count: int
) -> NDArray[np.uint8]:
    """Returns [side, side, count]."""
    planes = []
    for _ in range(count):
        noise = np.fft.rfft2(draws.standard_normal((side, side))) * falls
        plane = np.fft.irfft2(noise, (side, side))
        spread = plane.std() or 1.0
        planes.append(128 + 55 * (plane - plane.mean()) / spread)
    return np.stack(planes, 2).clip(0, 255).astype(np.uint8)
