"""The loss of training: cross-entropy, or binary cross-entropy, of each image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from forebear.tasks.train.recipe import Recipe


def loss(logits: Tensor, targets: Tensor, recipe: Recipe, weights: Tensor | None = None) -> Tensor:
    """Returns the loss of each image, [n], in nats.

    Label smoothing distributes a fraction of every target evenly over all classes (Szegedy et al.
    2016, section 7). Binary cross-entropy is the mean over the classes, not their sum. It keeps the
    fractions of mixed targets, as timm's BinaryCrossEntropy does by default, which Wightman et al.
    2021 use.

    With weights, the loss of an image, smoothing included, is multiplied by the weight of its
    class. A mixed image has the mixture of the weighted losses of its parts. Without smoothing this
    is `F.cross_entropy(weight=...)` for each image. With smoothing it is not: torch multiplies the
    smoothed fraction of each class by the weight of that class, so that a rare class with a large
    weight would be a large part of the target of every image.

    Args:
        logits: [n, classes] floats.
        targets: [n] class numbers, or [n, classes] fractions that sum to 1.
        recipe: gives the loss and the smoothing.
        weights: [classes] positive floats, or None for 1.
    """
    if weights is not None:
        if targets.ndim == 1:
            return weights[targets] * loss(logits, targets, recipe)
        parts = targets * weights
        scale = parts.sum(1, keepdim=True)
        return scale[:, 0] * loss(logits, parts / scale, recipe)
    if recipe.loss == "ce":
        return F.cross_entropy(
            logits, targets, reduction="none", label_smoothing=recipe.label_smoothing
        )
    classes = logits.shape[1]
    fractions = soft(targets, classes) if targets.ndim == 1 else targets
    fractions = fractions * (1 - recipe.label_smoothing) + recipe.label_smoothing / classes
    return F.binary_cross_entropy_with_logits(logits, fractions, reduction="none").mean(1)


def label_losses(
    logits: Tensor, targets: Tensor, *, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Returns the loss of each multi-label image, [n], in nats.

    It is the sum over the labels of their binary cross-entropies, which is the negative
    log-likelihood of the image's labels. The derivative by a logit is its probability minus its
    target, as in cross-entropy, so the learning rates of the recipes keep their meaning however
    many labels there are. With the mean over the labels it would be that divided by their number.

    Args:
        logits: [n, classes] floats.
        targets: [n, classes] of 0 and 1, or of the fractions of mixed images.
        smoothing: The fraction of each target that is distributed evenly over "has the label" and
            "has it not", so that targets become smoothing / 2 and 1 - smoothing / 2.
        weights: [classes] by which the losses of images that have the label are multiplied.
    """
    wanted = targets.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(
        logits, wanted, reduction="none", pos_weight=weights
    ).sum(1)


def plain_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the sum of the losses of a batch without smoothing, mixing and weights.

    Args:
        logits: [n, classes] floats.
        labels: [n] class indices, or [n, classes] of 0 and 1.
    """
    if labels.ndim == 2:
        return label_losses(logits, labels).sum()
    return F.cross_entropy(logits, labels, reduction="sum")


def hits(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the number of images that are right: the class, or all labels at 0.5.

    Args:
        logits: [n, classes] floats.
        labels: [n] class indices, or [n, classes] of 0 and 1.
    """
    if labels.ndim == 2:
        return ((logits >= 0) == (labels > 0)).all(1).sum()
    return (logits.argmax(1) == labels).sum()


def soft(labels: Tensor, classes: int) -> Tensor:
    """Converts class indices [n] to one-hot targets [n, classes], float32; others to float32."""
    if labels.ndim == 2:
        return labels.float()
    one_hot = torch.zeros(len(labels), classes, device=labels.device)
    return one_hot.scatter_(1, labels[:, None], 1.0)
