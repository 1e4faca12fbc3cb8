"""The settings of a training run: one frozen record, each field with its unit.

The files in forebear/recipes say them one a line; `forebear.tasks.train.recipe_files` reads these.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

Optimizer = Literal["sgd", "caffe", "adam", "adamw", "lamb", "muon"]
Schedule = Literal["constant", "step", "cosine", "triangular", "onecycle"]
Crop = Literal["auto", "shift", "resized", "middle"]
Mirror = Literal["auto", "random", "alternate", "none"]
Border = Literal["black", "reflect"]
Policy = Literal["none", "randaugment", "trivialaugment"]
Norms = Literal["own", "sync", "frozen", "auto"]

_CHOICES = {
    "optimizer": Optimizer,
    "schedule": Schedule,
    "crop": Crop,
    "mirror": Mirror,
    "border": Border,
    "policy": Policy,
    "norms": Norms,
    "loss": Literal["ce", "bce"],
    "rest": Literal["sgd", "adam"],
    "precision": Literal["auto", "fp32", "bf16"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a network is trained. Where 0 or "auto" is allowed, the data and the machine decide.

    Raises:
        ValueError: a field out of its range; the message names it.
    """

    # What it is
    summary: str = ""  # one line, for lists
    source: str = ""  # the paper or the code that the figures come from
    network: str = ""  # the network that it was published for; "": by the size of the pictures
    dialect: str = ""  # how to build it, where it is a table of forebear's own, NAME.toml

    # How long
    epochs: int = 0  # passes over the training pictures; 0 with iterations at 0: by their number
    iterations: int = 0  # steps, in place of epochs
    batch: int = 0  # pictures a step, over all processes; 0: by the number of pictures
    accumulate: int = 1  # parts that a batch is computed in, one after the other

    # What moves the weights
    optimizer: Optimizer = "sgd"  # caffe: momentum that the rate enters, v = m v + lr g
    lr: float  # learning rate at its peak; muon: of the filters
    lr_rest: float = 0.0  # muon: of all that is no filter; 0: as lr
    rest: Literal["sgd", "adam"] = "sgd"  # muon: what moves all that is no filter
    rounds: int = 5  # muon: of the iteration that makes its matrices orthogonal
    rescale: bool = False  # muon: filters keep the norm sqrt(out), in place of a decay
    backbone: float = 1.0  # share of the rate for all but the logits
    momentum: float = 0.9  # of sgd, caffe and muon; the first beta of adam, adamw and lamb
    nesterov: bool = False
    beta1: float = 0.9  # of muon's adam
    beta2: float = 0.999  # of adam, adamw, lamb and muon's adam
    eps: float = 1e-8  # of adam, adamw and muon's adam; lamb: 1e-6 is usual
    weight_decay: float = 0.0
    decay: Literal["all", "weights"] = "weights"  # weights: norms and biases have none
    clip: float = 0.0  # largest norm of all gradients together; 0: any

    # The rate over the run; its times are epochs, or steps where iterations are given
    schedule: Schedule
    warmup: float = 0.0  # time in which the rate rises to its peak, in a line
    warmup_from: float = 0.0  # share of the peak that it rises from
    milestones: tuple[float, ...] = ()  # step: times at which the rate is multiplied by gamma
    gamma: float = 0.1
    final: float = 0.0  # share of the peak at the end: cosine, triangular, onecycle

    # What is minimised
    loss: Literal["ce", "bce"] = "ce"  # cross-entropy, or binary cross-entropy a class
    smoothing: float = 0.0  # label smoothing: share of the target spread over all classes
    stochastic_depth: float = 0.0  # share of pictures for which the last unit is left out
    ema: float = 0.0  # share of the average kept a step, buffers too; 0: no average
    ema_every: int = 1  # steps between two updates of the average
    zero: bool = False  # the scale of each unit's last norm begins at 0 (Goyal et al. 2017, 5.1)
    norms: Norms = "own"  # each process by itself, all together, or as they came
    head_epochs: int = 0  # first epochs, in which the logits alone move
    head_only: bool = False  # the logits alone, on features computed once

    # What pictures go through in training
    size: int = 0  # pixels: side of the squares that the network sees; 0: the data's own
    size_from: int = 0  # pixels: the side at the start, where it grows; 0: it does not
    growth: tuple[float, float] = (0.0, 1.0)  # shares of the run between which it grows
    eval_size: int = 0  # pixels, of held-out pictures; 0: as size
    eval_side: int = 0  # pixels: their shorter side before the middle is cut; 0: by size
    crop: Crop = "shift"  # shift: moved by pixels; resized: a random part, resized; auto: by size
    shift: int = -1  # pixels, the most to each side; -1: an eighth of the size
    border: Border = "black"  # what a shift brings in
    scale: tuple[float, float] = (0.08, 1.0)  # resized: least and greatest share of the area
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # resized: least and greatest width to height
    mirror: Mirror = "auto"  # alternate: by chance in the first epoch, then turn by turn
    policy: Policy = "none"
    operations: int = 2  # randaugment: operations a picture
    magnitude: float = 9.0  # randaugment: 0 to 10
    magnitude_std: float = 0.0  # randaugment: spread of the magnitude
    jitter: float = 0.0  # most change of brightness, contrast and saturation, as a share
    lighting: float = 0.0  # spread of the noise along ImageNet's principal colours
    cutout: int = 0  # pixels: side of the square that is blanked
    erase: float = 0.0  # share of pictures in which a random rectangle is blanked
    mixup: float = 0.0  # alpha of the Beta that pictures are blended by; 0: never
    cutmix: float = 0.0  # alpha of the Beta that patches are exchanged by; both: one or the other
    repeats: int = 1  # views of a picture in one batch

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0  # of first weights, order and motion

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                expected = ", ".join(get_args(choices))
                raise ValueError(f"{name}={getattr(self, name)!r}: expected one of {expected}.")
        for field in fields(self):
            self._check(field.name)
        if self.epochs and self.iterations:
            raise ValueError(
                f"epochs={self.epochs} and iterations={self.iterations}: expected one of them. "
                "Set the other to 0."
            )
        if self.nesterov and (self.optimizer not in ("sgd", "muon") or not self.momentum):
            raise ValueError(
                f"nesterov with optimizer={self.optimizer!r} and momentum={self.momentum}: "
                "expected sgd or muon, and a momentum above 0. Set nesterov=false."
            )
        unit = "iterations" if self.iterations else "epochs"
        for name, time in (
            ("warmup", self.warmup),
            ("milestones", max(self.milestones, default=0)),
        ):
            if self.length and time >= self.length:
                raise ValueError(
                    f"{name}={time:g}: the run ends after {self.length:g} {unit}. Expected less. "
                    f"Set {name} too, or pass --epochs, which stretches all times along."
                )
        if self.head_only and self.head_epochs:
            raise ValueError(
                f"head_only with head_epochs={self.head_epochs}: the logits alone move in every "
                "epoch. Expected head_epochs=0."
            )

    def _check(self, name: str) -> None:
        value = getattr(self, name)
        if name in _LEAST and not value >= _LEAST[name]:
            raise ValueError(f"{name}={value}: expected {_LEAST[name]:g} or more.")
        if name in _SHARES and not 0 <= value < 1:
            raise ValueError(f"{name}={value}: expected a share from 0 up to 1.")
        if name == "lr" and not 0 < value < float("inf"):
            raise ValueError(f"lr={value}: expected a number above 0.")
        if name == "batch" and value == 1:
            raise ValueError("batch=1: expected 2 or more, as norms need; 0 leaves the choice.")
        if name in ("scale", "ratio", "growth") and not (
            len(value) == 2 and 0 <= value[0] <= value[1] and (name == "ratio" or value[1] <= 1)
        ):
            raise ValueError(f"{name}={list(value)}: expected two numbers, the lesser one first.")

    @property
    def length(self) -> float:
        """Epochs, or steps where iterations are given: the unit of all times in the recipe."""
        return self.iterations or self.epochs


_LEAST = {
    "epochs": 0, "iterations": 0, "batch": 0, "accumulate": 1, "lr_rest": 0, "rounds": 1,
    "backbone": 0, "eps": 0, "weight_decay": 0, "clip": 0, "warmup": 0, "gamma": 0, "final": 0,
    "ema_every": 1, "head_epochs": 0, "size": 0, "size_from": 0, "eval_size": 0, "eval_side": 0,
    "shift": -1, "operations": 1, "magnitude": 0, "magnitude_std": 0, "jitter": 0, "lighting": 0,
    "cutout": 0, "mixup": 0, "cutmix": 0, "repeats": 1, "seed": 0,
}  # fmt: skip
_SHARES = ("momentum", "beta1", "beta2", "smoothing", "stochastic_depth", "ema", "warmup_from")
