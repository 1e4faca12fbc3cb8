"""Chooses honest probabilities to find label errors with: of models that did not see the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import Dataset
from forebear.network.network import Network
from forebear.tasks.check import Row
from forebear.tasks.evaluation_set import match_classes
from forebear.tasks.faults.label_errors import (
    FOLDS,
    LEAST,
    Probabilities,
    of_network,
    of_shares,
    out_of_fold,
)
from forebear.tasks.faults.observe import Observed

Found = tuple[Probabilities, str]  # the probabilities, and a sentence that says where they are from


def honest(
    network: Network,
    data: Dataset,
    rows: Sequence[Row],
    seen: Observed,
    labels: NDArray[np.int64],
    families: NDArray[np.int64],
    shares: NDArray[np.float64] | None,
) -> list[Found]:
    """Returns honest probabilities for all images of one class each.

    Args:
        network: That the features and logits are from.
        data: The data set.
        rows: [n], the images.
        seen: Features and logits of the images.
        labels: [n].
        families: [n]; copies and near-duplicates have the same number.
        shares: [n, classes], out-of-fold probabilities of a cross-validation, of which `network` is
            that of a fold; NaN for images that were in none of its folds. None without one.
    """
    every, parts = np.arange(len(rows)), []
    if shares is not None:
        given = ~np.isnan(shares).any(1)
        found = of_shares(shares, labels, families, every[given])
        parts.append((found, _said(found, every[given], _CROSS_VALIDATED)))
        if not given.all():  # a validation set of the data's own
            parts += _own(network, data, seen, labels, families, every[~given])
        return parts
    own = np.zeros(len(rows), bool)
    metrics = network.card.metrics
    if data.fingerprint in (metrics.get("fingerprint"), metrics.get("data_fingerprint")):
        own = np.array([row.part == "val" for row in rows], bool)
    if not own.all() or not len(rows):
        found = out_of_fold(seen.features, labels, families, every[~own])
        how = (
            f"{FOLDS}-fold cross-validated logistic regression on the network's features "
            f"({seen.end_point}, {seen.features.shape[1]:,} values)"
        )
        parts.append((found, _said(found, every[~own], how)))
    if own.any():
        parts += _own(network, data, seen, labels, families, every[own])
    return parts


_CROSS_VALIDATED = (
    "the out-of-fold probabilities of the cross-validation, of networks that were not trained on "
    "the image"
)


def _own(
    network: Network,
    data: Dataset,
    seen: Observed,
    labels: NDArray[np.int64],
    families: NDArray[np.int64],
    chosen: NDArray[np.int64],
) -> list[Found]:
    """Returns the network's probabilities for validation images; nothing without a classifier."""
    if seen.logits is None:
        return []
    match = match_classes(network.classes, network.plan.num_classes or 0, data)
    found = of_network(seen.logits, match.numbers, labels, families, chosen)
    how = "the network's own probabilities, as it was not trained on these validation images"
    return [(found, _said(found, chosen, how))]


def _said(found: Probabilities, asked: NDArray[np.int64], how: str) -> str:
    left = len(asked) - len(found.rows)
    without = f" ({left:,} in classes with fewer than {LEAST} distinct ones are left out)"
    return f"label errors of {len(found.rows):,} images{without if left else ''}: {how}"
