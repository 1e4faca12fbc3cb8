"""Test-time augmentation with mirror images: the mean of two answers, at twice the time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from forebear.engines.classifier import Classifier
from forebear.engines.engine import Engine, EngineName, EnginePrecision, Pixels


class MirrorEngine:
    """An engine that answers each image and its mirror image.

    The logits of both are averaged, as Krizhevsky et al. 2012 (section 4.1) average the answers to
    ten crops, of which five are mirrored.
    """

    def __init__(self, engine: Engine) -> None:
        """Wraps an engine, which answers twice as many images."""
        self._engine = engine
        self.name: EngineName = engine.name
        self.precision: EnginePrecision = engine.precision

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """Returns the mean logits, [N, classes], of pixels [N, H, W, C]."""
        total = self._engine(pixels) + self._engine(pixels[:, :, ::-1])
        return total / np.float32(2)


def mirrored(classifier: Classifier) -> Classifier:
    """Returns a classifier that answers each image and its mirror image.

    Its identity differs, so that a job does not go on with other answers.
    """
    return replace(
        classifier,
        engine=MirrorEngine(classifier.engine),
        identity=f"{classifier.identity} with mirror images",
    )
