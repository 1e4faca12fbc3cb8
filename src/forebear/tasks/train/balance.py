"""Classes of unequal size: the weights of the loss, and the choice of what is done about them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forebear.data.dataset import Dataset
from forebear.tasks.train.recipe import Balance, BalanceWeights, Recipe

EVEN = 1.5  # ratio of the largest to the smallest class up to which nothing is done
Labels = NDArray[np.int64]


def imbalance(labels: Labels) -> float:
    """Returns how many times the images of the smallest class the largest one has; 1 or more.

    This is the imbalance factor of Cui et al. 2019, section 5.1. Classes without images do not
    count, as nothing can be learned about them.

    Args:
        labels: Class indices [N] of the training images.
    """
    counts = np.unique(labels, return_counts=True)[1]
    return float(counts.max() / counts.min()) if len(counts) else 1.0


def choose_balance(labels: Labels) -> Literal["none", "loss", "sampler"]:
    """Returns what `balance="auto"` stands for.

    It is "sampler" if the largest class has more than 1.5 times the images of the smallest. On
    long-tailed parts of CIFAR-10 with a ratio of 10, the sampler had a higher balanced accuracy
    than weights in the loss. With a ratio of 50 they were even, but weights in the loss cost 15
    points of the accuracy on images whose classes are as frequent as in training, and the sampler 5
    (benchmarks/results/imbalance.md).

    Args:
        labels: Class indices [N] of the training images.
    """
    return "none" if imbalance(labels) <= EVEN else "sampler"


def balance_line(balance: Balance, by: str, labels: Labels) -> str:
    """Returns the line that says what is done about classes of unequal size, and why.

    For example "balance: sampler, as the largest class has 12 times the images of the smallest".

    Args:
        balance: "none", "loss" or "sampler".
        by: Who chose it: "data" for `choose_balance`, else "user" or "recipe".
        labels: Class indices [N] of the training images.
    """
    ratio = imbalance(labels)
    times = f"{ratio:.0f}" if ratio >= 9.95 else f"{ratio:.1f}"
    found = f"the largest class has {times} times the images of the smallest"
    if by == "data":
        return f"balance: {balance}, as {found}"
    why = "as asked for" if by == "user" else "as the recipe says"
    return f"balance: {balance}, {why}; {found}"


def class_weights(
    labels: Labels, classes: int, kind: BalanceWeights = "effective"
) -> NDArray[np.float64]:
    """Returns the weight [classes] of each class in the loss.

    The weight is in proportion to 1 / n, where n is the number of images of the class, or to 1 /
    E, where E = (1 - beta^n) / (1 - beta) is its effective number (Cui et al. 2019, proposition 1)
    with beta = (N - 1) / N and the number of all training images as N. The mean weight of the
    training images is 1, so that the learning rate keeps its meaning. A class without images has
    the weight 1, which no image uses.

    Args:
        labels: Class indices [N] of the training images.
        classes: Number of classes.
        kind: "effective" or "inverse".
    """
    counts, total = np.bincount(labels, minlength=classes), len(labels)
    there = counts > 0
    numbers = counts[there].astype(np.float64)
    if kind == "effective":
        numbers = total * (1 - (1 - 1 / total) ** numbers)
    weights = np.ones(classes)
    weights[there] = 1 / numbers
    weights[there] *= total / (weights[there] * counts[there]).sum()
    return weights


def loss_weights(data: Dataset, recipe: Recipe) -> Tensor | None:
    """Returns the weights [classes] of a run's loss, float32, or None if the loss has none."""
    if recipe.balance != "loss":
        return None
    weights = class_weights(data.train.labels, len(data.classes), recipe.balance_weights)
    return torch.from_numpy(weights.astype(np.float32))
