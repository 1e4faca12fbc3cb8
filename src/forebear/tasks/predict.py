"""What is in a picture: the classes that a network names, with their probabilities."""

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
    """Each picture with its likeliest classes, best first, in the order given.

    Args:
        network: with its classes and preprocessing; classes without a name go by their number.
        images: paths of pictures.
        top: classes a picture; fewer where the network has fewer.

    Raises:
        ValueError: top is below 1.
        DataError: a picture that cannot be read; those before it have been given.
    """
    if top < 1:
        raise ValueError(f"top={top}: expected 1 or more.")
    for path in images:
        logits = network(network.preprocess(path))[0].float()
        shares, places = logits.softmax(0).topk(min(top, len(logits)))
        names = [network.classes[place] if network.classes else str(place) for place in places]
        yield path, list(zip(names, shares.tolist(), strict=True))
