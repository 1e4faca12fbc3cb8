"""Classifies images: the most probable classes of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from forebear.errors import RunError
from forebear.network.finite import check_finite
from forebear.network.network import Network
from forebear.tasks.train.out_of_memory import ran_out
from forebear.text import truncated

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
        ValueError: `top` is below 1, or the network has no classes.
        DataError: An image cannot be read; those before it have been yielded.
        RunError: Memory runs out.
        WeightsError: The logits of an image are not finite, so that it has no classes.
    """
    if top < 1:
        raise ValueError(f"top={top}: expected 1 or more. Pass the number of classes to show.")
    if network.plan.num_classes is None or not network.plan.global_pool:
        raise ValueError(
            f"{network.table.name} has no classifier or no global pool, so it gives features. "
            "Expected one logit for each class. Pass weights with a classifier."
        )
    for path in images:
        logits = _logits(network, path)
        check_finite(network, logits[None], [str(path)].__getitem__)
        probabilities, places = logits.softmax(0).topk(min(top, len(logits)))
        names = [network.classes[at] if network.classes else str(at) for at in places.tolist()]
        yield path, list(zip(names, probabilities.tolist(), strict=True))


def _logits(network: Network, path: Path) -> Tensor:
    try:
        logits: Tensor = network(network.preprocess(path))
        return logits[0].float()
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
    size = network.preprocessing.size
    raise RunError(
        f"{truncated(path)}: memory ran out at an input size of {size} x {size} pixels. Expected "
        "room for the image and its feature maps. End other programs, or pass other weights."
    )
