"""Compares an exported file, in its own runtime, with the network that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from forebear.data.images.preprocess import fit, normalise, to_image
from forebear.engines.graph_card import GraphCard
from forebear.network.network import Network
from forebear.tables.preprocessing import Preprocessing
from forebear.tasks.export.formats import Runner

BATCHES = (1, 3, 8)  # images at a time
TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2}  # of the largest logit


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How far an exported file is from its network."""

    images: int
    batches: tuple[int, ...]
    sizes: tuple[int, ...]  # input sizes in pixels
    largest: float  # difference of a logit, relative to the largest logit
    same_class: int  # images whose most probable class is the same
    tolerance: float

    @property
    def equal(self) -> bool:
        """Whether the file is what it should be."""
        return self.largest <= self.tolerance and self.same_class == self.images

    def line(self) -> str:
        """Returns the comparison in one line."""
        return (
            f"largest difference {self.largest:.1e} of the largest logit, "
            f"{self.same_class} of {self.images} images with the same class, in batches of "
            f"{', '.join(map(str, self.batches))} at {' and '.join(map(str, self.sizes))} pixels"
        )


@torch.inference_mode()
def compare(
    network: Network, run: Runner, card: GraphCard, images: Sequence[object], precision: str
) -> Comparison:
    """Returns the comparison of a file with its network.

    Args:
        network: In evaluation mode.
        run: The file in its runtime.
        card: Of the file.
        images: Whatever `to_image` takes.
        precision: Of the file; it chooses the tolerance.
    """
    largest, same, count = 0.0, 0, 0
    sizes = (card.size, card.size + card.size // 4) if card.any_size else (card.size,)
    for size in sizes:
        rule = _sized(network.preprocessing, size)
        rows: Any = np.stack(
            [fit(to_image(one, rule.channels, rule.levels), rule) for one in images]
        )
        inputs = np.stack([normalise(row, rule) for row in rows])
        wanted = network(torch.from_numpy(inputs)).float().numpy()
        for batch in BATCHES:
            found = np.concatenate(
                [run(rows[at : at + batch]) for at in range(0, len(rows), batch)]
            )
            if found.shape != wanted.shape:
                raise ValueError(f"its output is {found.shape} instead of {wanted.shape}")
            gaps = np.abs(found - wanted)
            largest = max(largest, float(gaps.max() / np.abs(wanted).max()))
            if not np.isfinite(found).all():
                largest = float("inf")
            same += _same_class(found, wanted, float(gaps.max()))
            count += len(rows)
    return Comparison(
        images=count,
        batches=BATCHES,
        sizes=sizes,
        largest=largest,
        same_class=same,
        tolerance=TOLERANCES[precision],
    )


def _same_class(found: NDArray[Any], wanted: NDArray[Any], gap: float) -> int:
    """Counts rows with the same largest logit; two logits nearer than the difference are a tie."""
    found, wanted = (one.reshape(len(one), one.shape[1], -1).mean(2) for one in (found, wanted))
    chosen = np.take_along_axis(wanted, found.argmax(1)[:, None], 1)[:, 0]
    return int((wanted.max(1) - chosen <= 2 * gap).sum())


def _sized(rule: Preprocessing, size: int) -> Preprocessing:
    if size == rule.size:
        return rule
    side = max(size, round(rule.side * size / rule.size)) if rule.resize == "shorter" else size
    resize = "square" if rule.resize == "none" else rule.resize
    return replace(rule, size=size, side=side, resize=resize)


def synthetic_images(count: int, side: int, seed: int = 0) -> list[Image.Image]:
    """Returns colour images with the spectrum of photographs, which falls with the frequency.

    They stand in for photographs where there are none. Field 1987: the amplitude of natural images
    falls with about the first power of the spatial frequency.
    """
    draws = np.random.default_rng(seed)
    across = np.fft.fftfreq(side)[:, None] ** 2 + np.fft.rfftfreq(side)[None, :] ** 2
    falls = 1 / np.sqrt(np.maximum(across, 1 / side**2))
    found = []
    for _ in range(count):
        planes = []
        for _ in range(3):
            noise = np.fft.rfft2(draws.standard_normal((side, side))) * falls
            plane = np.fft.irfft2(noise, (side, side))
            planes.append(128 + 55 * (plane - plane.mean()) / plane.std())
        stacked = np.stack(planes, 2).clip(0, 255).astype(np.uint8)
        found.append(Image.fromarray(stacked))
    return found
