"""What training minimises: cross-entropy, or binary cross-entropy, of each picture."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from forebear.tasks.train.recipe import Recipe


def loss(logits: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    """The loss of each picture, [n], in nats.

    Label smoothing moves a share of every target to all classes alike (Szegedy et al. 2016,
    section 7). Binary cross-entropy is the mean over the classes, not their sum, and takes mixed
    targets as the shares that they are, as timm's BinaryCrossEntropy does unless told otherwise
    (Wightman et al. 2021 train so).

    Args:
        logits: [n, classes] floats.
        targets: [n] class numbers, or [n, classes] shares that sum to 1.
        recipe: gives the loss and the smoothing.
    """
    if recipe.loss == "ce":
        return F.cross_entropy(
            logits, targets, reduction="none", label_smoothing=recipe.label_smoothing
        )
    classes = logits.shape[1]
    shares = soft(targets, classes) if targets.ndim == 1 else targets
    shares = shares * (1 - recipe.label_smoothing) + recipe.label_smoothing / classes
    return F.binary_cross_entropy_with_logits(logits, shares, reduction="none").mean(1)


def soft(labels: Tensor, classes: int) -> Tensor:
    """Class numbers as shares: [n] -> [n, classes] float32, 1 for the class and 0 elsewhere."""
    shares = torch.zeros(len(labels), classes, device=labels.device)
    return shares.scatter_(1, labels[:, None], 1.0)
