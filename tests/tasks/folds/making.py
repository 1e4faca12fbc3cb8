"""A finished cross-validation, made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from forebear.tasks.folds.out_of_fold import AnyOutOfFold, LabelsOutOfFold, OutOfFold
from forebear.tasks.folds.results import CrossValidation, fold_result


def predictions(*, left_out: bool = False) -> OutOfFold:
    """Six images of two classes in two folds, of which image 5 is wrong."""
    logits = np.zeros((6, 2), np.float32)
    logits[np.arange(6), [0, 0, 1, 1, 0, 0]] = np.log(3)  # 3 to 1
    if left_out:
        logits[1] = np.nan
    return OutOfFold(
        classes=("cat", "<dog>"),
        labels=np.array([0, 0, 1, 1, 0, 1]),
        folds=np.array([1, 2, 1, 2, 1, 2]),
        logits=logits,
    )


def label_predictions(*, left_out: bool = False) -> LabelsOutOfFold:
    """Six images with up to two labels in two folds, of which images 4 and 5 are wrong."""
    labels = np.array([[1, 0], [1, 1], [0, 0], [0, 1], [1, 1], [1, 0]], np.uint8)
    given = labels.copy()
    given[4], given[5] = [0, 1], [1, 1]
    logits = np.where(given, 2, -2).astype(np.float32)
    if left_out:
        logits[1] = np.nan
    folds = np.array([1, 2, 1, 2, 1, 2])
    return LabelsOutOfFold(classes=("cat", "<dog>"), labels=labels, folds=folds, logits=logits)


def cross_validation(
    folder: Path = Path("runs/x"), found: AnyOutOfFold | None = None
) -> CrossValidation:
    """A cross-validation with these predictions; `predictions()` by default."""
    found = predictions() if found is None else found
    return CrossValidation(
        folder=folder,
        data="folder:pictures",
        by="{group}_*.png",
        folds=tuple(fold_result(number, folder / f"fold-{number}", found, {}) for number in (1, 2)),
        predictions=found,
        left_out=len(found.folds) - found.images,
    )
