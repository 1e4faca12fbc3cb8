"""A logistic regression on the features of a frozen network: the logits' best start.

It is multinomial, or one regression per label if images have several. The L2 penalty is chosen by
cross-validation. Fine-tuning that starts from such logits moves the features less than fine-tuning
from random ones (LP-FT: Kumar et al. 2022, arXiv:2202.10054).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from forebear.data.labels import Labels, is_multi, strata
from forebear.data.loader import Loader
from forebear.data.strata import stratified
from forebear.network.network import Network
from forebear.tasks.label_metrics import average_precision, mean_of
from forebear.tasks.train.input_pipeline import features
from forebear.tasks.train.loss import plain_loss
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
        recipe: Resolved; its `head_scale` is a factor of these logits.

    Raises:
        RunError: A batch does not fit in memory.
        DataError: An image cannot be decoded.
    """
    found = features(network, training, replace(recipe, mirror="none"))
    values, labels = found.values[0].flatten(1), found.labels
    logits = network.get_submodule("logits")
    classes = len(logits.get_parameter("bias"))
    penalty, quality = choose_penalty(values, labels, classes, seed=recipe.seed)
    scale = recipe.head_scale
    weight, bias = (scale * found for found in fit(values, labels, classes, penalty))
    with torch.no_grad():
        logits.get_parameter("weight").copy_(weight.view_as(logits.get_parameter("weight")))
        logits.get_parameter("bias").copy_(bias)
    said = f"mAP {quality:.1%}" if is_multi(labels) else f"{quality:.1%} correct"
    scaled = f", times {scale:g}" if scale != 1 else ""
    return (
        f"the logits start as a logistic regression on the features of {len(labels):,} images"
        f"{scaled}: {said} in cross-validation, with an L2 penalty of {penalty:.2g}"
    )


def choose_penalty(
    features: Tensor, labels: Labels, classes: int, *, seed: int
) -> tuple[float, float]:
    """Returns the penalty with the lowest cross-validated loss, and its accuracy or mAP, 0 to 1.

    Of images that the classifier has not seen, the loss varies less than the accuracy.

    Args:
        features: [N, D].
        labels: [N] class indices, or [N, classes] of 0 and 1.
        classes: Number of classes.
        seed: Of the folds.
    """
    chosen = stratified(labels, seed)[:MOST]
    features, labels = features[chosen], labels[chosen]
    folds = folds_of(labels, seed)
    starts: list[tuple[Tensor, Tensor] | None] = [None] * FOLDS
    best, quality, lowest, since = PENALTIES[0], 0.0, math.inf, 0
    for penalty in PENALTIES:
        loss, logits = 0.0, features.new_zeros(len(labels), classes)
        for fold in np.unique(folds).tolist():
            inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            wanted = torch.from_numpy(labels[outside]).to(features.device)
            found = fit(features[inside], labels[inside], classes, penalty, starts[fold])
            starts[fold] = found
            logits[outside] = nn.functional.linear(features[outside], *found)
            loss += float(plain_loss(logits[outside], wanted))
        since += 1
        if loss < lowest:
            best, quality, lowest, since = penalty, _quality(logits, labels), loss, 0
        if since == PAST:
            break
    return best, quality


def _quality(logits: Tensor, labels: Labels) -> float:
    """Returns the accuracy, or the mAP of multi-label images, 0 to 1."""
    values = logits.cpu().numpy()
    if is_multi(labels):
        return mean_of(average_precision(labels, values))
    return float((values.argmax(1) == labels).mean())


def folds_of(labels: Labels, seed: int) -> NDArray[np.int64]:
    """Returns the fold [N] of each image, from 0 to FOLDS - 1; each has its share of a class.

    Multi-label images count by the rarest of their labels; see `strata`.
    """
    labels = strata(labels)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    folds = np.empty(len(labels), np.int64)
    folds[order] = np.arange(len(labels)) % FOLDS
    return folds


def fit(
    features: Tensor,
    labels: Labels,
    classes: int,
    penalty: float,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns weight [classes, D] and bias [classes] for one penalty, by L-BFGS.

    The penalty is that on half the sum of the squared weights of centred features whose mean
    standard deviation is 1, relative to the mean loss. Biases bear none. The loss of a multi-label
    image is the sum of the binary cross-entropies of its labels.

    Args:
        features: [N, D].
        labels: [N] class indices, or [N, classes] of 0 and 1.
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
        loss = plain_loss(logits, wanted) / len(wanted) + penalty / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    weight, bias = weight.detach() / scale, bias.detach()
    return weight, bias - weight @ mean
