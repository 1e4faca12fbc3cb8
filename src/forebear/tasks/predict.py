"""Classifies images: the most probable classes of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from forebear.network.network import Network

Guess = tuple[str, float]  # class name, probability


@torch.inference_mode()
def predict(
    network: Network, images: Sequence[Path], *, top: int = 5
) -> Iterator[tuple[Path, list[Guess]]]:
    """Yields each image with its most probable classes, best first, in the order given.

    Args:
        network: Has its classes and preprocessing; classes without names are shown by number.
        images: Paths of the images.
        top: Classes per image; fewer if the network has fewer.

    Raises:
        ValueError: `top` is below 1.
        DataError: An image cannot be read; those before it have been yielded.
    """
    if top < 1:
        raise ValueError(f"top={top}: expected 1 or more.")
    for path in images:
        logits = network(network.preprocess(path))[0].float()
        probabilities, places = logits.softmax(0).topk(min(top, len(logits)))
        names = [network.classes[place] if network.classes else str(place) for place in places]
        yield path, list(zip(names, probabilities.tolist(), strict=True))
