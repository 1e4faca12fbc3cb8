"""Describes in one line what was read: parts, classes, and files that were skipped."""

from __future__ import annotations

import numpy as np

from forebear.data.dataset import Dataset, Images
from forebear.data.labels import counts, listed, without_label
from forebear.text import printable

_REASONS = 6  # kinds of skipped files that are named


def summary(data: Dataset, *, tests: bool = False) -> str:
    """Returns the line that `train` and `check` print before anything starts.

    For example "train: 1,200 images in 3 classes from train/; validation: 300 from valid/; test:
    100 from test/, not used; 2 files skipped: 2 HEIC".

    Args:
        data: As it was read.
        tests: Whether the test part is evaluated at the end.
    """
    classes = f"{len(data.classes):,} class{'' if len(data.classes) == 1 else 'es'}"
    parts = [
        f"train: {len(data.train):,} images in {classes}{_from(data, 'train')}",
        f"validation: {len(data.val):,}" + (_from(data, "val") or f", {data.split}"),
    ]
    if data.test is not None:
        use = "evaluated once at the end" if tests else "not used"
        parts.append(f"test: {len(data.test):,}{_from(data, 'test')}, {use}")
    if data.multi_label:
        parts += label_facts(data)
    if data.groups:
        parts.append(group_counts(data))
    count = sum(data.skipped.values())
    if count:
        named = [f"{n:,} {why}" for why, n in list(data.skipped.items())[:_REASONS]]
        more = ", ..." if len(data.skipped) > _REASONS else ""
        files = "file" if count == 1 else "files"
        parts.append(f"{count:,} {files} skipped: {', '.join(named)}{more}")
    return "; ".join(parts)


def label_facts(data: Dataset) -> list[str]:
    """Returns how many labels images have, and which labels a part lacks or all images have.

    For example "1.8 labels an image, 12 of 400 images have none" and "validation has no image with
    the label cat (1 of 9 labels)".
    """
    known: dict[str, Images | None] = {
        "training": data.train,
        "validation": data.val,
        "test": data.test,
    }
    there = {part: images.labels for part, images in known.items() if images is not None}
    matrix, total = np.concatenate(list(there.values())), len(data.classes)
    empty = without_label(matrix)
    none = f", {empty:,} of {len(matrix):,} images have none" if empty else ""
    facts = [f"{matrix.sum() / max(len(matrix), 1):.1f} labels an image{none}"]
    for part, labels in there.items():
        found = counts(labels, total)
        lacking = [name for name, count in zip(data.classes, found, strict=True) if not count]
        every = [name for name, n in zip(data.classes, found, strict=True) if n == len(labels)]
        if lacking:
            facts.append(
                f"{part} has no image with the label {listed(lacking)} ({len(lacking):,} of "
                f"{total:,} labels)"
            )
        if every:
            facts.append(f"all {part} images have the label {listed(every)}")
    return facts


def group_counts(data: Dataset) -> str:
    """Returns how many groups there are: "34 groups by patient (train 29, validation 5)"."""
    known = list(data.groups.values())
    numbers = set[int]().union(*(groups.numbers.tolist() for groups in known))
    names = {"val": "validation"}
    each = ", ".join(f"{names.get(part, part)} {own.count:,}" for part, own in data.groups.items())
    plural = "" if len(numbers) == 1 else "s"
    return f"{len(numbers):,} group{plural} by {printable(known[0].by)} ({each})"


def _from(data: Dataset, part: str) -> str:
    origin = data.origins.get(part)
    return f" from {origin}" if origin else ""
