"""What is in a picture: the classes that a network names, with their probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from forebear.data.decode import open_picture
from forebear.data.preprocess import preprocess
from forebear.weights.files import Saved

Guess = tuple[str, float]  # class name, probability


@torch.inference_mode()
def predict(
    saved: Saved, images: Sequence[Path], *, top: int = 5
) -> Iterator[tuple[Path, list[Guess]]]:
    """Each picture with its likeliest classes, best first, in the order given.

    Args:
        saved: a network with its classes and preprocessing.
        images: paths of pictures.
        top: classes a picture; fewer where the network has fewer.

    Raises:
        ValueError: top is below 1.
        DataError: a picture that cannot be read; those before it have been given.
    """
    if top < 1:
        raise ValueError(f"top={top}: expected 1 or more.")
    weight = next(saved.network.parameters())
    for path in images:
        picture = open_picture(path, channels=saved.preprocessing.channels)
        values = torch.from_numpy(preprocess(picture, saved.preprocessing))[None]
        logits = saved.network(values.to(weight.device, weight.dtype))
        shares, places = logits[0].float().softmax(0).topk(min(top, len(saved.classes)))
        names = [saved.classes[place] for place in places.tolist()]
        yield path, list(zip(names, shares.tolist(), strict=True))
