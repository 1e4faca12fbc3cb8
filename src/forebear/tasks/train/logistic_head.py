"""A multinomial logistic regression on the features of a frozen network: the logits' best start.

The L2 penalty is chosen by cross-validation. Fine-tuning that starts from such logits moves the
features less than fine-tuning from random ones (LP-FT: Kumar et al. 2022, arXiv:2202.10054).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from forebear.data.loader import Loader
from forebear.data.strata import stratified
from forebear.network.network import Network
from forebear.tasks.train.input_pipeline import features
from forebear.tasks.train.recipe import Recipe

PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(0, -13, -1))  # 1 to 1e-6
PAST = 2  # weaker penalties that are tried after the best one
FOLDS = 5
MOST = 5000  # images of the cross-validation
_ITERATIONS = 200


def start_logits(network: Network, training: Loader, recipe: Recipe) -> str:
    """Puts a logistic regression in the place of a network's logits, and returns a line about it.

    Args:
        network: On the device of the images; only its logits change.
        training: All its images are used.
        recipe: Resolved.

    Raises:
        RunError: A batch does not fit in memory.
        DataError: An image cannot be decoded.
    """
    found = features(network, training, replace(recipe, mirror="none"))
    values, labels = found.values[0].flatten(1), found.labels
    logits = network.get_submodule("logits")
    classes = len(logits.get_parameter("bias"))
    penalty, accuracy = choose_penalty(values, labels, classes, seed=recipe.seed)
    weight, bias = fit(values, labels, classes, penalty)
    with torch.no_grad():
        logits.get_parameter("weight").copy_(weight.view_as(logits.get_parameter("weight")))
        logits.get_parameter("bias").copy_(bias)
    return (
        f"the logits start as a logistic regression on the features of {len(labels):,} images: "
        f"{accuracy:.1%} correct in cross-validation, with an L2 penalty of {penalty:.2g}"
    )


def choose_penalty(
    features: Tensor, labels: NDArray[np.int64], classes: int, *, seed: int
) -> tuple[float, float]:
    """Returns the penalty with the lowest cross-validated loss, and its accuracy.

    Of images that the classifier has not seen, the loss varies less than the accuracy.

    Args:
        features: [N, D].
        labels: [N] class indices.
        classes: Number of classes.
        seed: Of the folds.
    """
    chosen = stratified(labels, seed)[:MOST]
    features, labels = features[chosen], labels[chosen]
    folds = folds_of(labels, seed)
    starts: list[tuple[Tensor, Tensor] | None] = [None] * FOLDS
    best, accuracy, lowest, since = PENALTIES[0], 0.0, math.inf, 0
    for penalty in PENALTIES:
        loss, hits = 0.0, 0
        for fold in np.unique(folds).tolist():
            inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            wanted = torch.from_numpy(labels[outside]).to(features.device)
            found = fit(features[inside], labels[inside], classes, penalty, starts[fold])
            starts[fold] = found
            logits = nn.functional.linear(features[outside], *found)
            loss += float(nn.functional.cross_entropy(logits, wanted, reduction="sum"))
            hits += int((logits.argmax(1) == wanted).sum())
        since += 1
        if loss < lowest:
            best, accuracy, lowest, since = penalty, hits / len(labels), loss, 0
        if since == PAST:
            break
    return best, accuracy


def folds_of(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Returns the fold [N] of each image, from 0 to FOLDS - 1; each has its share of a class."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    folds = np.empty(len(labels), np.int64)
    folds[order] = np.arange(len(labels)) % FOLDS
    return folds


def fit(
    features: Tensor,
    labels: NDArray[np.int64],
    classes: int,
    penalty: float,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns weight [classes, D] and bias [classes] for one penalty, by L-BFGS.

    The penalty is that on half the sum of the squared weights of centred features whose mean
    standard deviation is 1, relative to the mean loss. Biases bear none.

    Args:
        features: [N, D].
        labels: [N] class indices.
        classes: Number of classes.
        penalty: 0 or more.
        start: Weight and bias to start from; None: zeros.
    """
    mean, scale = features.mean(0), features.std(0, correction=0).mean().clamp(min=1e-8)
    inputs = (features - mean) / scale
    wanted = torch.from_numpy(labels).to(features.device)
    if start is None:
        weight = features.new_zeros(classes, features.shape[1])
        bias = features.new_zeros(classes)
    else:
        weight = start[0] * scale
        bias = start[1] + start[0] @ mean
    weight, bias = weight.requires_grad_(True), bias.detach().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_ITERATIONS,
        tolerance_grad=1e-5,
        tolerance_change=1e-7,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = nn.functional.linear(inputs, weight, bias)
        loss = nn.functional.cross_entropy(logits, wanted) + penalty / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    weight, bias = weight.detach() / scale, bias.detach()
    return weight, bias - weight @ mean
