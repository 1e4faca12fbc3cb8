"""Compares an exported file, in its own runtime, with the network that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from forebear.data.images.preprocess import fit, normalise, to_image
from forebear.engines.compare import difference
from forebear.engines.graph_card import GraphCard
from forebear.network.network import Network
from forebear.tables.preprocessing import Preprocessing
from forebear.tasks.export.formats import Runner

BATCHES = (1, 3, 8)  # images at a time
TIE = 1e-5  # of the largest logit: nearer logits may change places by rounding
# Of the largest logit, and the share of the images that must have the same class. `quantize` has
# judged an int8 graph by its accuracy before.
TOLERANCES = {"fp32": (1e-4, 1.0), "fp16": (2e-2, 1.0), "int8": (2.5e-1, 0.8)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How far an exported file is from its network."""

    images: int
    batches: tuple[int, ...]
    sizes: tuple[str, ...]  # input sizes in pixels, such as 224 or 224x448
    largest: float  # difference of a logit, relative to the largest logit
    same_class: int  # images whose most probable class is the same
    tolerance: float  # of `largest`
    least: float = 1.0  # share of the images that must have the same class

    @property
    def equal(self) -> bool:
        """Whether the file is what it should be."""
        return self.largest <= self.tolerance and self.same_class >= self.least * self.images

    def line(self) -> str:
        """Returns the comparison in one line."""
        return (
            f"largest difference {self.largest:.1e} of the largest logit, "
            f"{self.same_class} of {self.images} images with the same class, in batches of "
            f"{', '.join(map(str, self.batches))} at {' and '.join(self.sizes)} pixels"
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
    rules = [_sized(network.preprocessing, size) for size in sizes]
    for rule in rules:
        rows: Any = np.stack(
            [fit(to_image(one, rule.channels, rule.levels), rule) for one in images]
        )
        inputs = np.stack([normalise(row, rule) for row in rows])
        wanted = network(torch.from_numpy(inputs)).float().numpy()
        for batch in BATCHES:
            found = np.concatenate(
                [run(rows[at : at + batch]) for at in range(0, len(rows), batch)]
            )
            apart = difference(found, wanted, TIE)
            largest = max(largest, apart.largest)
            same, count = same + apart.same_class, count + apart.images
    return Comparison(
        images=count,
        batches=BATCHES,
        sizes=tuple(map(_shown, rules)),
        largest=largest,
        same_class=same,
        tolerance=TOLERANCES[precision][0],
        least=TOLERANCES[precision][1],
    )


def _shown(rule: Preprocessing) -> str:
    return str(rule.size) if rule.width is None else f"{rule.size}x{rule.width}"


def _sized(rule: Preprocessing, size: int) -> Preprocessing:
    if size == rule.size:
        return rule
    side = max(size, round(rule.side * size / rule.size)) if rule.resize == "shorter" else size
    resize = "square" if rule.resize == "none" else rule.resize
    width = None if rule.width is None else round(rule.width * size / rule.size)
    return replace(rule, size=size, width=width, side=side, resize=resize)
