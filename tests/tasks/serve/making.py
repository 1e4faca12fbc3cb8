"""A classifier without a network, and a service around it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from forebear.engines.classifier import Classifier
from forebear.tables.preprocessing import TIMM_V2

RULE = replace(TIMM_V2, size=8, side=8)


class Brightness:
    """Class 1 for bright images, class 0 for dark ones."""

    name: Any = "torch"
    precision: Any = "fp32"

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.batches, self.fault = seconds, [], ""  # type: ignore[var-annotated]

    def __call__(self, pixels: Any) -> Any:
        time.sleep(self.seconds)
        if self.fault:
            raise RuntimeError(self.fault)
        self.batches.append(len(pixels))
        bright = pixels.reshape(len(pixels), -1).mean(1) / 32 - 4
        return np.stack([-bright, bright], 1).astype(np.float32)


def classifier(engine: Brightness | None = None) -> Classifier:
    return Classifier(
        engine=engine or Brightness(), preprocessing=RULE, classes=("dark", "bright"),
        network="brightness",
    )  # fmt: skip
