"""Classes of unequal size: the weights of the loss, and the choice of what is done about them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forebear.data.dataset import Dataset
from forebear.data.labels import Labels, counts, is_multi
from forebear.tasks.train.recipe import Balance, BalanceWeights, Recipe

EVEN = 1.5  # ratio of the largest to the smallest class up to which nothing is done


def imbalance(labels: Labels) -> float:
    """Returns how many times the images of the smallest class the largest one has; 1 or more.

    This is the imbalance factor of Cui et al. 2019, section 5.1. Classes without images do not
    count, as nothing can be learned about them.

    Args:
        labels: Class indices [N] of the training images, or [N, classes] of 0 and 1.
    """
    found = counts(labels, int(labels.max(initial=0)) + 1)
    found = found[found > 0]
    return float(found.max() / found.min()) if len(found) else 1.0


def choose_balance(labels: Labels) -> Literal["none", "loss", "sampler"]:
    """Returns what `balance="auto"` stands for.

    It is "sampler" if the largest class has more than 1.5 times the images of the smallest. On
    long-tailed parts of CIFAR-10 with a ratio of 10, the sampler had a higher balanced accuracy
    than weights in the loss. With a ratio of 50 they were even, but weights in the loss cost 15
    points of the accuracy on images whose classes are as frequent as in training, and the sampler 5
    (benchmarks/results/imbalance.md).

    It is "none" for multi-label images: an image with a rare label mostly has frequent ones too, so
    no drawing makes labels equally frequent, and the thresholds allow for rare labels.

    Args:
        labels: Class indices [N] of the training images, or [N, classes] of 0 and 1.
    """
    if is_multi(labels):
        return "none"
    return "none" if imbalance(labels) <= EVEN else "sampler"


def balance_line(balance: Balance, by: str, labels: Labels) -> str:
    """Returns the line that says what is done about classes of unequal size, and why.

    For example "balance: sampler, as the largest class has 12 times the images of the smallest".

    Args:
        balance: "none", "loss" or "sampler".
        by: Who chose it: "data" for `choose_balance`, else "user" or "recipe".
        labels: Class indices [N] of the training images.
    """
    if is_multi(labels) and by == "data":
        return f"balance: {balance}, as images have several labels"
    ratio = imbalance(labels)
    times = f"{ratio:.0f}" if ratio >= 9.95 else f"{ratio:.1f}"
    kind = "label" if is_multi(labels) else "class"
    found = f"the largest {kind} has {times} times the images of the smallest"
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
    found, total = counts(labels, classes), len(labels)
    there = found > 0
    weights = np.ones(classes)
    weights[there] = 1 / _numbers(found[there], total, kind)
    weights[there] *= total / (weights[there] * found[there]).sum()
    return weights


def label_weights(labels: Labels, kind: BalanceWeights = "effective") -> NDArray[np.float64]:
    """Returns the weight [classes] of images that have a label in the loss of that label.

    It is the number of images without the label divided by that of images with it, so that both
    count the same in the loss: the `pos_weight` of torch's BCEWithLogitsLoss. With "effective" both
    numbers are effective ones, as in `class_weights`. A label without images has the weight 1.

    Args:
        labels: [N, classes] of 0 and 1 of the training images.
        kind: "effective" or "inverse".
    """
    found, total = counts(labels, labels.shape[1]), len(labels)
    there = (found > 0) & (found < total)
    weights = np.ones(labels.shape[1])
    with_it, without = (_numbers(n[there], total, kind) for n in (found, total - found))
    weights[there] = without / with_it
    return weights


def label_odds(labels: Labels, weights: Tensor | None) -> Tensor:
    """Returns the odds [classes] of each label among the training images, float64.

    Args:
        labels: [N, classes] of 0 and 1.
        weights: Of the images that have the label, as in the loss; None for 1.
    """
    found = torch.from_numpy(counts(labels, labels.shape[1])).double()
    odds = (found + 0.5) / (len(labels) - found + 0.5)  # finite, however rare a label is
    return odds if weights is None else odds * weights


def _numbers(found: NDArray[np.int64], total: int, kind: BalanceWeights) -> NDArray[np.float64]:
    """Returns numbers of images, or their effective numbers, [n]."""
    numbers = found.astype(np.float64)
    return total * (1 - (1 - 1 / total) ** numbers) if kind == "effective" else numbers


def loss_weights(data: Dataset, recipe: Recipe) -> Tensor | None:
    """Returns the weights [classes] of a run's loss, float32, or None if the loss has none.

    They are those of the classes, or of the images that have the label if they have several.
    """
    if recipe.balance != "loss":
        return None
    if data.multi_label:
        several = label_weights(data.train.labels, recipe.balance_weights)
        return torch.from_numpy(several.astype(np.float32))
    weights = class_weights(data.train.labels, len(data.classes), recipe.balance_weights)
    return torch.from_numpy(weights.astype(np.float32))
