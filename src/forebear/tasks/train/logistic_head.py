"""A multinomial logistic regression on the features of a frozen network: the logits' best start.

The L2 penalty is chosen by cross-validation. Fine-tuning that starts from such logits moves the
features less than fine-tuning from random ones (LP-FT: Kumar et al. 2022, arXiv:2202.10054).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from forebear.data.strata import stratified

PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(0, -13, -1))  # 1 to 1e-6
PAST = 2  # weaker penalties that are tried after the best one
FOLDS = 5
MOST = 5000  # images of the cross-validation
_ITERATIONS = 200


@dataclass(frozen=True, slots=True, eq=False)
class Logistic:
    """A linear classifier."""

    weight: Tensor  # [classes, D]
    bias: Tensor  # [classes]
    penalty: float  # times half the sum of the squared weights, for features of unit variance
    accuracy: float  # cross-validated, 0 to 1

    def __call__(self, features: Tensor) -> Tensor:
        """Returns logits [N, classes] of features [N, D]."""
        return nn.functional.linear(features, self.weight, self.bias)


def fit_logistic(
    features: Tensor, labels: NDArray[np.int64], classes: int, *, seed: int
) -> Logistic:
    """Returns the logistic regression with the penalty that cross-validation finds best.

    Args:
        features: [views, N, D] of N images; views: the image, and possibly its mirror image.
        labels: [N] class indices.
        classes: Number of classes.
        seed: Of the folds.
    """
    penalty, accuracy = choose_penalty(features, labels, classes, seed=seed)
    weight, bias = _fit(features, labels, classes, penalty)
    return Logistic(weight, bias, penalty, accuracy)


def choose_penalty(
    features: Tensor, labels: NDArray[np.int64], classes: int, *, seed: int
) -> tuple[float, float]:
    """Returns the penalty with the lowest cross-validated loss, and its accuracy.

    Of images that the classifier has not seen, the loss varies less than the accuracy.

    Args:
        features: As in `fit_logistic`.
        labels: As in `fit_logistic`.
        classes: As in `fit_logistic`.
        seed: Of the folds.
    """
    chosen = stratified(labels, seed)[:MOST]
    features, labels = features[:, chosen], labels[chosen]
    folds = folds_of(labels, seed)
    starts: list[tuple[Tensor, Tensor] | None] = [None] * FOLDS
    best, accuracy, lowest, since = PENALTIES[0], 0.0, math.inf, 0
    for penalty in PENALTIES:
        loss, hits = 0.0, 0
        for fold in np.unique(folds).tolist():
            inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            wanted = torch.from_numpy(labels[outside]).to(features.device)
            found = _fit(features[:, inside], labels[inside], classes, penalty, starts[fold])
            starts[fold] = found
            logits = nn.functional.linear(features[0, outside], *found)
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


def _fit(
    features: Tensor,
    labels: NDArray[np.int64],
    classes: int,
    penalty: float,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns weight and bias for one penalty, by L-BFGS on standardised features."""
    flat = features.flatten(0, 1)
    mean, scale = flat.mean(0), flat.std(0, correction=0).mean().clamp(min=1e-8)
    inputs = (flat - mean) / scale
    wanted = torch.from_numpy(np.tile(labels, len(features))).to(flat.device)
    if start is None:
        weight = flat.new_zeros(classes, flat.shape[1])
        bias = flat.new_zeros(classes)
    else:
        weight = start[0] * scale
        bias = start[1] + start[0] @ mean
    weight, bias = weight.requires_grad_(True), bias.detach().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=_ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = nn.functional.linear(inputs, weight, bias)
        loss = nn.functional.cross_entropy(logits, wanted) + penalty / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[arg-type]
    weight, bias = weight.detach() / scale, bias.detach()
    return weight, bias - weight @ mean
