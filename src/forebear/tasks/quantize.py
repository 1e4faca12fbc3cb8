"""Quantises a network to int8 with images of a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import Images, for_rule
from forebear.data.images.preprocess import fit
from forebear.data.sources.registry import read_data
from forebear.engines.graph_cache import FP32, INT8, cache_of, new_folder
from forebear.engines.onnx_model import write_onnx
from forebear.engines.quantize import Accuracy, quantize
from forebear.errors import DataError, WeightsError
from forebear.network.network import Network
from forebear.tasks.evaluation_set import choose_images, match_classes
from forebear.text import truncated

JUDGED = 5_000  # most images that accuracy is measured on; 224 x 224 pixels take 750 MB


def quantize_on(
    network: Network,
    source: Path,
    spec: str,
    *,
    images: int = 300,
    limit: float = 0.1,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Accuracy, Path]:
    """Keeps an int8 graph of a network in the cache, for the engines.

    Args:
        network: In evaluation mode, with its classes and preprocessing.
        source: The file or the run that it was loaded from.
        spec: A data set, as in `read_data`.
        images: Images that the ranges of activations are measured on, from the training part.
        limit: Points of top-1 accuracy that may be lost.
        seed: Chooses the images.
        say: Takes lines that say which images are used.

    Returns:
        How the int8 graph answers, and its path.

    Raises:
        WeightsError: It loses more accuracy, or the graph cannot be kept for this source.
        DataError: The data have too few images, or an image cannot be read.
        ValueError: The network is multi-label.
    """
    if network.multi_label:
        raise ValueError(
            f"{truncated(network.table.name)}: the network is multi-label, and int8 graphs are "
            "judged by top-1 accuracy. Expected a network with one class an image. Use the fp32 "
            "engines."
        )
    folder = cache_of(source, None, None)
    if folder is None:
        raise WeightsError(
            f"{truncated(source)}: the int8 graph is kept for one weights file. Expected a run "
            "folder or a file. Convert the weights to .safetensors first."
        )
    data = read_data(spec)
    judged = choose_images(data, None, network.card.metrics)
    match = match_classes(network.classes, network.plan.num_classes or 0, data)
    say(f"judged on {judged.said}; {match.said}")
    draws = np.random.default_rng(seed)
    places = draws.permutation(len(data.train))[:images]
    if len(places) < 8:
        raise DataError(
            f"{spec}: {len(places)} training images. Expected 8 or more to measure the ranges of "
            "activations. Pass a larger data set."
        )
    calibration = _pixels(network, data.train, places)
    chosen = np.sort(draws.permutation(len(judged.images))[:JUDGED])
    if len(chosen) < len(judged.images):
        say(f"of these, {JUDGED:,} are used")
    pixels = _pixels(network, judged.images, chosen)
    labels = match.numbers[judged.images.labels[chosen]]
    new_folder(folder)
    if not (folder / FP32).is_file():
        write_onnx(network, folder / FP32)
    found = quantize(
        folder / FP32, folder / INT8, calibration, pixels, labels.tolist(), limit=limit
    )
    return found, folder / INT8


def _pixels(network: Network, images: Images, places: NDArray[np.int64]) -> Any:
    rule = network.preprocessing
    levelled = for_rule(images, rule)
    return np.stack([fit(levelled.image(int(place)), rule) for place in places])
