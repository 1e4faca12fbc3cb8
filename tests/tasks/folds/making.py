"""A finished cross-validation, made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from forebear.tasks.folds.predict import LEFT_OUT, OutOfFold
from forebear.tasks.folds.results import CrossValidation, FoldResult


def predictions(*, left_out: bool = False) -> OutOfFold:
    """Six images of two classes in two folds, of which image 5 is wrong."""
    guesses = np.array([0, 0, 1, 1, 0, 0])
    probabilities = np.full((6, 2), 0.25, np.float32)
    probabilities[np.arange(6), guesses] = 0.75
    if left_out:
        guesses[1], probabilities[1] = LEFT_OUT, np.nan
    return OutOfFold(
        classes=("cat", "<dog>"),
        labels=np.array([0, 0, 1, 1, 0, 1]),
        folds=np.array([1, 2, 1, 2, 1, 2]),
        guesses=guesses,
        probabilities=probabilities,
    )


def cross_validation(folder: Path = Path("runs/x"), *, left_out: bool = False) -> CrossValidation:
    measures = [{"top1": 1.0, "balanced": 1.0, "macro_f1": 1.0}]
    measures.append({"top1": 0.5, "balanced": 0.75, "macro_f1": 0.625})
    return CrossValidation(
        folder=folder,
        data="folder:pictures",
        by="{group}_*.png",
        folds=tuple(
            FoldResult(number, folder / f"fold-{number}", 3, own)
            for number, own in enumerate(measures, start=1)
        ),
        predictions=predictions(left_out=left_out),
        left_out=int(left_out),
    )
