"""The settings of a training run: one frozen record, each field with its unit."""

from __future__ import annotations

from dataclasses import dataclass

from forebear.tasks.device import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a network is trained."""

    epochs: int  # passes over the training pictures
    batch: int  # pictures a step
    lr: float  # learning rate at its peak
    warmup: float  # share of all steps in which the rate rises from 0 to its peak
    momentum: float  # of SGD, Nesterov's form
    weight_decay: float  # on convolutions and logits; norms and biases have none
    smoothing: float  # label smoothing: share of the target spread over all classes
    size: int  # pixels: side of the squares that the network sees
    shift: int  # pixels: the most that a picture is moved, to each side
    mirror: bool  # swap left and right for every other picture
    precision: Precision
    seed: int  # of first weights, order and motion

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch", 2), ("size", 1), ("shift", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}: expected {least} or more.")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"lr={self.lr}: expected a number above 0.")
        for name in ("warmup", "momentum", "smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected a share from 0 up to 1.")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay={self.weight_decay}: expected 0 or more.")
