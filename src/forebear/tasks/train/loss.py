"""The loss of training: cross-entropy, or binary cross-entropy, of each image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from forebear.tasks.train.recipe import Recipe


def loss(logits: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    """Returns the loss of each image, [n], in nats.

    Label smoothing distributes a fraction of every target evenly over all classes (Szegedy et al.
    2016, section 7). Binary cross-entropy is the mean over the classes, not their sum. It keeps the
    fractions of mixed targets, as timm's BinaryCrossEntropy does by default, which Wightman et al.
    2021 use.

    Args:
        logits: [n, classes] floats.
        targets: [n] class numbers, or [n, classes] fractions that sum to 1.
        recipe: gives the loss and the smoothing.
    """
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
