"""A finished cross-validation, made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

import forebear
from forebear.data.dataset import Dataset
from forebear.data.sources.fold_split import FoldPlan
from forebear.tasks.folds.out_of_fold import AnyOutOfFold, LabelsOutOfFold, OutOfFold
from forebear.tasks.folds.predict import write_table
from forebear.tasks.folds.results import CrossValidation, fold_result
from tests.network.making import make


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


def saved_folds(
    folder: Path, data: Dataset, wrong: Callable[[int], int] = lambda at: -1
) -> FoldPlan:
    """A finished cross-validation of two folds as a folder, without a training.

    Logits are about 2.2 and -2.2. `wrong` gives an image another class, or turns one of its labels,
    with logits of twice that size.
    """
    plan = FoldPlan.of(data, 2)
    count, labels = len(data.classes), plan.images.labels
    sizes = np.full(len(labels), 2.2)
    right = np.eye(count)[labels] if labels.ndim == 1 else labels.astype(float)
    for at in range(len(labels)):
        number = wrong(at)
        if number >= 0:
            sizes[at] = 4.4
        if number >= 0 and labels.ndim == 1:
            right[at] = np.eye(count)[number]
        elif number >= 0:
            right[at, number] = 1 - right[at, number]
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, right.shape)
    logits = (np.where(right > 0, 1, -1) * sizes[:, None] + noise).astype(np.float32)
    kind: type[AnyOutOfFold] = OutOfFold if labels.ndim == 1 else LabelsOutOfFold
    found = kind(classes=data.classes, labels=labels, folds=plan.numbers, logits=logits)
    fingerprint = plan.split(1).fingerprint
    net = make("paper/resnet20", num_classes=count)
    net.card = replace(net.card, classes=data.classes, metrics={"fingerprint": fingerprint})
    (folder / "fold-1").mkdir(parents=True)
    forebear.save(net, folder / "fold-1" / "model.safetensors")
    write_table(folder / "out_of_fold.csv", found, plan)
    note = {"folds": 2, "request": {"data": data.spec}, "fingerprint": fingerprint}
    (folder / "folds.json").write_text(json.dumps(note | {"out_of_fold": found.measures()}))
    return plan
