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


def soft(labels: Tensor, classes: int) -> Tensor:
    """Converts class indices [n] to one-hot targets [n, classes], float32."""
    one_hot = torch.zeros(len(labels), classes, device=labels.device)
    return one_hot.scatter_(1, labels[:, None], 1.0)
