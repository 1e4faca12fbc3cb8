"""Finds outliers: images whose features are far from those of all other images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forebear.tasks.faults.near_duplicates import unit
from forebear.tasks.faults.optional_library import library

NEIGHBOURS = 10
THRESHOLD = 5.0  # robust standard deviations above the median of the class
_FEW = 20  # images: a class with fewer takes the median and the deviation of all images
_MAD = 1.4826  # a normal distribution's standard deviation in median absolute deviations


def neighbour_distances(
    features: NDArray[np.float32], neighbours: int = NEIGHBOURS
) -> NDArray[np.float64]:
    """Returns the distance of each image to its k-th nearest neighbour among all images.

    Features are divided by their norms first. Source: Sun et al., Out-of-distribution detection
    with deep nearest neighbors (ICML 2022), section 3.

    Args:
        features: Pooled features [n, d].
        neighbours: k; n - 1 if there are fewer images.

    Raises:
        ForebearError: scikit-learn is not installed.
    """
    count = min(neighbours, len(features) - 1)
    if count < 1:
        return np.zeros(len(features))
    search = library("sklearn.neighbors").NearestNeighbors(n_neighbors=count, algorithm="brute")
    distances, _ = search.fit(unit(features)).kneighbors()  # without the image itself
    return np.asarray(distances[:, -1], np.float64)


def outlier_scores(
    features: NDArray[np.float32], labels: NDArray[np.int64], neighbours: int = NEIGHBOURS
) -> NDArray[np.float64]:
    """Returns how unusual each image is in its class, in robust standard deviations [n].

    The score is the image's distance to its k-th nearest neighbour minus the median of its class,
    in units of 1.4826 times the median absolute deviation.

    Raises:
        ForebearError: scikit-learn is not installed.
    """
    distances = neighbour_distances(features, neighbours)
    scores = _standardised(distances, distances)
    for label in np.unique(labels):
        own = labels == label
        if own.sum() >= _FEW:
            scores[own] = _standardised(distances[own], distances[own])
    return scores


def _standardised(values: NDArray[np.float64], of: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(of):
        return np.zeros(0)
    middle = float(np.median(of))
    spread = _MAD * float(np.median(np.abs(of - middle)))
    return (values - middle) / max(spread, 1e-3)  # 1e-3: if most distances are equal
