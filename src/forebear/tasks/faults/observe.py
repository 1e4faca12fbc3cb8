"""Reads each usable image of a data set once: its perceptual hash, its features and its logits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from forebear.data.dataset import Dataset, Images, for_rule, joined
from forebear.data.images.bands import as_image
from forebear.data.images.preprocess import preprocess, to_image
from forebear.errors import DataError, WeightsError
from forebear.network.network import Network
from forebear.tables.preprocessing import Preprocessing
from forebear.tasks.faults.near_duplicates import Hashes
from forebear.tasks.faults.optional_library import library
from forebear.tasks.features import before_logits
from forebear.tasks.machine.device import find_device
from forebear.tasks.predict_job import decoded

_BATCH = 64  # images
_HASHED = 256  # pixels: a hash needs 64, and whole factors leave at least this many
_Input = tuple[NDArray[np.uint64], NDArray[np.float32]]  # perceptual hash, and network input


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """One row for each image that could be read, in the order of the data set."""

    places: NDArray[np.int64]  # [n], indices in the training images followed by the validation ones
    hashes: Hashes
    features: NDArray[np.float32]  # [n, d], pooled, of the end point before the logits
    logits: NDArray[np.float32] | None  # [n, classes of the network]; None without a classifier
    end_point: str


def all_images(data: Dataset) -> Images:
    """Returns the training images followed by the validation images."""
    return joined([data.train, data.val])


def perceptual_hash(image: Image.Image) -> NDArray[np.uint64]:
    """Returns the pHash of an image twice: 64 bits, and 256 bits in four more words.

    A bit says whether one of the lowest 8 x 8 or 16 x 16 frequencies is above their median. Source:
    Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions (2010), section
    3.2.1.

    Raises:
        ForebearError: ImageHash is not installed.
    """
    phash = library("imagehash").phash
    grey = image.convert("L")
    grey = grey.reduce(max(1, min(grey.size) // _HASHED))  # a large image is shrunk faster so
    bits = [np.packbits(phash(grey, hash_size=side).hash) for side in (8, 16)]
    return np.concatenate(bits).view(np.uint64)


def observe(
    network: Network,
    data: Dataset,
    places: NDArray[np.int64],
    advance: Callable[[int], None] = lambda count: None,
) -> Observed:
    """Returns hashes, features and logits. Images that cannot be read are left out.

    Args:
        network: In evaluation mode. It is moved to the GPU if there is one.
        data: As returned by `read_data`.
        places: Indices of images in `all_images`.
        advance: Called with the number of images after each batch.

    Raises:
        ForebearError: ImageHash is not installed.
        WeightsError: The features of an image are not finite.
    """
    rule, device = network.preprocessing, find_device()
    images = for_rule(all_images(data), rule)
    network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    points = [before_logits(network), *(["logits"] if network.plan.num_classes else [])]
    kept: list[int] = []
    words: list[NDArray[np.uint64]] = []
    rows: list[list[NDArray[np.float32]]] = [[] for _ in points]
    for some in decoded(_reader(images, rule), places.tolist(), batch=_BATCH):
        read = _readable(some)
        if read:
            kept += [place for place, _ in read]
            words += [one for _, (one, _) in read]
            inputs = torch.from_numpy(np.stack([pixels for _, (_, pixels) in read]))
            for column, tensor in zip(rows, _forward(network, inputs, points), strict=True):
                column.append(tensor)
        advance(len(some))
    columns = [
        np.concatenate(column) if column else np.zeros((0, 1), np.float32) for column in rows
    ]
    for values in columns:
        _check_finite(values, kept, images, points[0])
    found = np.array(words, np.uint64).reshape(-1, 5)
    return Observed(
        places=np.array(kept, np.int64),
        hashes=Hashes(found[:, 0], found[:, 1:]),
        features=columns[0],
        logits=columns[1] if len(columns) > 1 else None,
        end_point=points[0],
    )


def _reader(images: Images, rule: Preprocessing) -> Callable[[int], _Input]:
    def read(place: int) -> _Input:
        image = images.image(place)
        return perceptual_hash(as_image(image)), preprocess(to_image(image, rule.channels), rule)

    return read


def _readable(some: list[tuple[int, Future[_Input]]]) -> list[tuple[int, _Input]]:
    found = []
    for place, future in some:
        try:
            found.append((place, future.result()))
        except DataError:
            continue
    return found


@torch.inference_mode()
def _forward(
    network: Network, inputs: torch.Tensor, points: list[str]
) -> list[NDArray[np.float32]]:
    """Returns the pooled features [n, d], and the logits [n, classes] if they are asked for."""
    weight = next(network.parameters())
    batch = inputs.to(weight.device, weight.dtype).contiguous(memory_format=torch.channels_last)
    found = network.end_points(batch, points)
    tensors = [found[point] for point in points]
    return [(one.mean((2, 3)) if one.ndim == 4 else one).float().cpu().numpy() for one in tensors]


def _check_finite(
    values: NDArray[np.float32], places: list[int], images: Images, end_point: str
) -> None:
    finite = np.isfinite(values).all(1)
    if not finite.all():
        name = images.name(places[int(finite.argmin())])
        raise WeightsError(
            f"{name}: its features at {end_point} are not finite. Expected finite features. "
            "Pass other weights, or remove the image."
        )
