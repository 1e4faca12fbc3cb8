"""The settings of a training run: one frozen record, made of records by topic.

The files in forebear/recipes hold one recipe each. `forebear.tasks.train.recipe_files` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from forebear.data.augment.config import Augment
from forebear.settings import check, setting
from forebear.tasks.train.input_config import InputConfig

Optimizer = Literal["sgd", "caffe", "adam", "adamw", "lamb", "muon"]
Schedule = Literal["constant", "step", "cosine", "triangular", "onecycle"]
HeadInit = Literal["default", "logistic"]
BatchNorm = Literal["own", "sync", "frozen", "auto"]
Balance = Literal["none", "loss", "sampler", "auto"]
BalanceWeights = Literal["effective", "inverse"]

RENAMED = {  # fields of older versions, which recipes and run folders may still have
    "backbone": "backbone_lr_scale",
    "decay": "decay_on",
    "erase": "random_erasing",
    "final": "final_lr_scale",
    "lr_rest": "other_lr",
    "norms": "batch_norm",
    "ratio": "crop_ratio",
    "repeats": "repeated_augmentation",
    "rest": "other_optimizer",
    "rounds": "newton_schulz_steps",
    "scale": "crop_scale",
    "smoothing": "label_smoothing",
    "zero": "zero_init_residual",
}


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a recipe under the names that its fields have today.

    Raises:
        ValueError: a field is given under its old and its new name.
    """
    both = [old for old in values if RENAMED.get(old, old) != old and RENAMED[old] in values]
    if both:
        old = both[0]
        raise ValueError(
            f"{old} and {RENAMED[old]} are the same field. Expected one of them. Leave out {old}, "
            "its old name."
        )
    return {RENAMED.get(name, name): value for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class About:
    """What a recipe is, and what it was published for."""

    summary: str = setting("", help="one line, for lists of recipes")
    source: str = setting("", help="the paper or the code that the values come from")
    network: str = setting(
        "", help="the network that the recipe was published for; empty: by the input size"
    )
    dialect: str = setting("", help="the dialect, if the network is a table of forebear, NAME.toml")


MOST_BATCH = 2**20  # images


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long a run is, and how many images a step takes."""

    epochs: int = setting(
        0, help="passes over the training set; 0: by its size", unit="epochs", least=0
    )
    iterations: int = setting(0, help="steps, in place of epochs", unit="steps", least=0)
    batch: int = setting(
        0,
        help="images per step, over all processes; 0: by the size of the training set",
        unit="images",
        least=0,
        most=MOST_BATCH,
    )
    accumulate: int = setting(
        1, help="parts in which a batch is computed, one after the other", least=1, off=1
    )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How the weights move."""

    optimizer: Optimizer = setting(
        "sgd",
        help="the optimizer; caffe: SGD whose momentum includes the learning rate, v = m v + lr g",
    )
    lr: float = setting(
        help="peak learning rate; with muon, that of the convolution filters", above=0
    )
    other_lr: float = setting(
        0.0,
        help="peak learning rate of all other parameters; 0: as lr",
        least=0,
        needs=("optimizer", "muon"),
    )
    other_optimizer: Literal["sgd", "adam"] = setting(
        "sgd", help="the optimizer of all other parameters", needs=("optimizer", "muon")
    )
    newton_schulz_steps: int = setting(
        5,
        help="steps of the iteration that makes the filters' updates orthogonal",
        least=1,
        needs=("optimizer", "muon"),
    )
    rescale: bool = setting(
        False,
        help="keep the norm of each filter at sqrt(output channels), in place of weight decay",
        needs=("optimizer", "muon"),
    )
    backbone_lr_scale: float = setting(
        1.0, help="factor on the learning rate of all layers but the logits", least=0, off=1
    )
    momentum: float = setting(
        0.9,
        help="momentum of sgd, caffe and muon; the first beta of adam, adamw and lamb",
        least=0,
        below=1,
    )
    nesterov: bool = setting(False, help="Nesterov momentum", needs=("optimizer", "sgd", "muon"))
    beta1: float = setting(
        0.9,
        help="the first beta of Adam for all other parameters",
        least=0,
        below=1,
        needs=("optimizer", "muon"),
    )
    beta2: float = setting(
        0.999,
        help="the second beta of adam, adamw, lamb, and of muon's Adam",
        least=0,
        below=1,
        needs=("optimizer", "adam", "adamw", "lamb", "muon"),
    )
    eps: float = setting(
        1e-8,
        help="epsilon of adam, adamw and muon's Adam; with lamb 1e-6 is usual",
        least=0,
        needs=("optimizer", "adam", "adamw", "lamb", "muon"),
    )
    weight_decay: float = setting(0.0, help="weight decay", least=0)
    decay_on: Literal["all", "weights"] = setting(
        "weights",
        help="what weight decay applies to; weights: all but norms and biases",
        needs=("weight_decay",),
    )
    clip: float = setting(0.0, help="largest norm of all gradients together; 0: no limit", least=0)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate over a run. Times are epochs, or steps if iterations are given."""

    schedule: Schedule = setting(help="the form of the learning rate over the run")
    warmup: float = setting(
        0.0, help="time in which the learning rate rises linearly to its peak", least=0
    )
    warmup_from: float = setting(
        0.0,
        help="fraction of the peak at the start of the warm-up",
        least=0,
        below=1,
        needs=("warmup",),
    )
    milestones: tuple[float, ...] = setting(
        (),
        help="times at which the learning rate is multiplied by gamma",
        needs=("schedule", "step"),
    )
    gamma: float = setting(
        0.1, help="factor at each milestone", least=0, needs=("schedule", "step")
    )
    final_lr_scale: float = setting(
        0.0,
        help="fraction of the peak at the end",
        least=0,
        needs=("schedule", "cosine", "triangular", "onecycle"),
    )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The loss, the regularisation, and which layers learn."""

    loss: Literal["ce", "bce"] = setting(
        "ce", off="ce", help="ce: cross-entropy; bce: binary cross-entropy of each class"
    )
    label_smoothing: float = setting(
        0.0, help="fraction of the target that is spread over all classes", least=0, below=1
    )
    stochastic_depth: float = setting(
        0.0, help="fraction of images that skip the last unit", least=0, below=1
    )
    ema: float = setting(
        0.0,
        help="decay of the moving average of weights and buffers, per update; 0: no average",
        least=0,
        below=1,
    )
    ema_every: int = setting(
        1, help="steps between updates of the average", unit="steps", least=1, off=1, needs=("ema",)
    )
    zero_init_residual: bool = setting(
        False, help="start the last norm of each unit at 0 (Goyal et al. 2017, section 5.1)"
    )
    batch_norm: BatchNorm = setting(
        "own",
        off="own",
        help="statistics of batch norm; own: of each process; sync: of all processes; frozen: the "
        "running ones; auto: frozen for small batches",
    )
    head_epochs: int = setting(
        0, help="first epochs, in which the logits alone learn", unit="epochs", least=0
    )
    head_init: HeadInit = setting(
        "default",
        off="default",
        help="how the logits start; default: at random, or as the checkpoint has them; logistic: "
        "as a logistic regression on the features of the training images, whose L2 penalty "
        "cross-validation chooses",
    )
    head_scale: float = setting(
        1.0,
        help="factor of the logistic regression's logits at the start of training; 0: 0.25 if "
        "norms use the statistics of the batch, with which it was not fitted, otherwise 1",
        least=0,
        off=1,
        needs=("head_init", "logistic"),
    )
    head_only: bool = setting(
        False, help="train the logits alone, on features that are computed once"
    )


@dataclass(frozen=True, kw_only=True)
class BalanceConfig:
    """What is done about classes with unequal numbers of images."""

    balance: Balance = setting(
        "none",
        help="classes of unequal size; loss: weights of the classes in the loss; sampler: epochs "
        "with as many images of each class (Kang et al. 2020, section 3); auto: sampler if the "
        "largest class has more than 1.5 times the images of the smallest",
    )
    balance_weights: BalanceWeights = setting(
        "effective",
        help="weights of the classes in the loss; effective: 1 / effective number of images (Cui "
        "et al. 2019, proposition 1); inverse: 1 / number of images",
        needs=("balance", "loss"),
    )


@dataclass(frozen=True, kw_only=True)
class Compute:
    """The precision and the seed."""

    precision: Literal["auto", "fp32", "fp32-strict", "bf16"] = setting(
        "auto",
        help="number format of forward and backward passes; auto: bf16 if the device multiplies it "
        "natively; fp32-strict: without Winograd's algorithm on a CPU, whose rounding is larger",
    )
    seed: int = setting(
        0,
        help="random seed of the initial weights, the order of images and the augmentation",
        least=0,
        most=2**63 - 1,
        always=True,
    )


@dataclass(frozen=True, kw_only=True)
class Recipe(
    Compute,
    Augment,
    InputConfig,
    BalanceConfig,
    ModelConfig,
    ScheduleConfig,
    OptimizerConfig,
    Length,
    About,
):
    """How a network is trained. 0 and "auto" leave a choice to the data and the machine.

    Raises:
        ValueError: a field is out of its range; the message names it.
    """

    def __post_init__(self) -> None:
        check(self)
        self._check_pairs()
        self.check_shape()
        if self.batch == 1:
            raise ValueError("batch=1: expected 2 or more, as norms need; 0 leaves the choice.")
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
        self._check_times()
        if self.head_only and self.head_epochs:
            raise ValueError(
                f"head_only with head_epochs={self.head_epochs}: the logits alone learn in every "
                "epoch. Expected head_epochs=0."
            )

    def _check_pairs(self) -> None:
        for name, most in (("crop_scale", 1.0), ("growth", 1.0), ("crop_ratio", float("inf"))):
            pair = getattr(self, name)
            if not (len(pair) == 2 and 0 <= pair[0] <= pair[1] <= most):
                raise ValueError(
                    f"{name}={list(pair)}: expected two numbers, the smaller one first."
                )

    def _check_times(self) -> None:
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

    @property
    def length(self) -> float:
        """Epochs, or steps if iterations are given: the unit of all times in the recipe."""
        return self.iterations or self.epochs
