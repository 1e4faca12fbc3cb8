"""Computes the features of many images: a network's tensors at one of its end points."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from forebear.data.images.preprocess import preprocess, to_image
from forebear.engines.classifier import identity_of
from forebear.errors import DataError, WeightsError
from forebear.network.network import Network
from forebear.network.plan.end_points import end_points
from forebear.tasks.feature_file import FeatureJob
from forebear.tasks.job_files import digest_of
from forebear.tasks.predict_job import decoded
from forebear.text import truncated


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """The rows of a batch of images."""

    values: NDArray[np.float32]  # [N, ...]; the row of an image that cannot be read is NaN
    errors: tuple[str, ...]  # of the images that cannot be read


class Extractor:
    """A network that answers images with the tensor at one of its end points.

    A map [C, h, w] is averaged over h and w into [C], unless maps are asked for.
    """

    def __init__(
        self, network: Network, end_point: str | None = None, *, maps: bool = False
    ) -> None:
        """Finds the end point, and its shape.

        Args:
            network: In evaluation mode.
            end_point: A name that `Network.end_points` takes; None is what comes before the logits.
            maps: Whether maps are kept.

        Raises:
            ValueError: The end point is unknown. The message suggests similar names.
        """
        self.network, self.maps = network, maps
        self.end_point = end_point or before_logits(network)
        rule = network.preprocessing
        grey = np.full((*rule.shape, rule.channels), 128, np.uint8)
        self.shape = self([preprocess(to_image(grey, rule.channels), rule)]).shape[1:]  # of a row

    def decode(self, path: Path) -> NDArray[np.float32]:
        """Returns the network's input, [C, H, W].

        Raises:
            DataError: The image cannot be read.
        """
        rule = self.network.preprocessing
        return preprocess(to_image(path, rule.channels, rule.levels), rule)

    @torch.inference_mode()
    def __call__(self, images: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Returns the features of a batch of `decode`'s results, [N, ...]."""
        weight = next(self.network.parameters())
        batch = torch.from_numpy(np.stack(images)).to(weight.device, weight.dtype)
        (found,) = self.network.end_points(batch, [self.end_point]).values()
        if found.ndim == 4 and not self.maps:
            found = found.mean((2, 3))
        return found.float().cpu().numpy()

    def job(self, paths: list[str]) -> FeatureJob:
        """Returns what decides the content of the result for a list of images."""
        net = self.network
        weights = f"{identity_of(net)} {net.table.name} {net.dialect!r} {net.preprocessing!r}"
        return FeatureJob(
            weights=hashlib.sha256(weights.encode()).hexdigest(),
            end_point=self.end_point,
            maps=self.maps,
            images=len(paths),
            paths=digest_of(paths),
        )


def before_logits(network: Network) -> str:
    """Returns the last end point before the logits: the pool, if there is one."""
    names = [name for name in end_points(network.plan) if name not in ("logits", "predictions")]
    return names[-1]


def features(
    extractor: Extractor, images: Iterable[Path], *, batch: int = 16, threads: int | None = None
) -> Iterator[Features]:
    """Yields the features of images, a batch at a time, in the order of the images.

    Args:
        extractor: The network and its end point.
        images: Paths.
        batch: Images at a time.
        threads: Decoding threads; None takes one per core.

    Raises:
        WeightsError: The features of an image are not finite.
    """
    for some in decoded(extractor.decode, images, batch=batch, threads=threads):
        yield _rows(extractor, some)


def _rows(extractor: Extractor, images: list[tuple[Path, Future[NDArray[np.float32]]]]) -> Features:
    errors: list[str] = []
    inputs: list[NDArray[np.float32]] = []
    places: list[int] = []
    for place, (_, future) in enumerate(images):
        try:
            inputs.append(future.result())
            places.append(place)
        except DataError as error:
            errors.append(str(error))
    values = np.full((len(images), *extractor.shape), np.nan, np.float32)
    if inputs:
        found = extractor(inputs)
        finite = np.isfinite(found).reshape(len(found), -1).all(1)
        if not finite.all():
            path = images[places[int(finite.argmin())]][0]
            raise WeightsError(
                f"{truncated(path)}: its features at {extractor.end_point} are not finite. "
                "Expected finite features. Pass other weights, or another image."
            )
        values[places] = found
    return Features(values=values, errors=tuple(errors))
