"""Which pictures validate when the data do not say, and the fingerprint of both parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import Dataset, Images
from forebear.errors import DataError
from forebear.text import printable


def held_out(
    pictures: Images,
    *,
    share: float,
    spec: str,
    classes: tuple[str, ...],
    side: int,
    mirror: bool = True,
) -> Dataset:
    """Data of which a share of each class was put aside for validation, by content.

    Raises:
        DataError: A class is too small to be on both sides.
    """
    digests = [pictures.digest(index) for index in range(len(pictures))]
    val = validating(digests, pictures.labels, share)
    _refuse_one_sided(val, pictures.labels, classes, spec)
    parts = [np.flatnonzero(~val), np.flatnonzero(val)]
    entries = [[(digests[i], int(pictures.labels[i])) for i in part] for part in parts]
    return Dataset(
        spec=spec,
        classes=classes,
        train=pictures.take(parts[0]),
        val=pictures.take(parts[1]),
        side=side,
        mirror=mirror,
        split=f"{share:.0%} of each class held out for validation, chosen by the pictures' sha256",
        fingerprint=fingerprint(classes, *entries),
    )


def given(
    train: Images,
    val: Images,
    *,
    spec: str,
    classes: tuple[str, ...],
    side: int,
    split: str,
    mirror: bool = True,
) -> Dataset:
    """Data that came in two parts; `split` says so in a sentence."""
    entries = [
        [(part.digest(index), int(part.labels[index])) for index in range(len(part))]
        for part in (train, val)
    ]
    return Dataset(
        spec=spec,
        classes=classes,
        train=train,
        val=val,
        side=side,
        mirror=mirror,
        split=split,
        fingerprint=fingerprint(classes, *entries),
    )


def validating(
    digests: Sequence[bytes], labels: NDArray[np.int64], share: float
) -> NDArray[np.bool_]:
    """[N], True for the pictures to validate with: the same ones whatever the order or the names.

    Within a class the contents with the smallest hashes are taken, which is as good as chance.
    All copies of a picture go to the same side, those filed under another class included.
    """
    home: dict[bytes, int] = {}  # a content's class: where copies disagree, the first one
    for digest, label in zip(digests, labels.tolist(), strict=True):
        home[digest] = min(label, home.get(digest, label))
    contents: dict[int, list[bytes]] = {}
    for digest, label in home.items():
        contents.setdefault(label, []).append(digest)
    chosen: set[bytes] = set()
    for members in contents.values():
        chosen.update(sorted(members)[: max(1, round(share * len(members)))])
    return np.array([digest in chosen for digest in digests], dtype=np.bool_)


def fingerprint(
    classes: Sequence[str],
    train: Iterable[tuple[bytes, int]],
    val: Iterable[tuple[bytes, int]],
) -> str:
    """sha256 over the class names and the sorted (key, label) pairs of both parts.

    A key is the sha256 of a picture's content; only folders that come with a train and a val part
    use the relative path and the size in bytes, so that a large folder need not be read to start.
    """
    total = hashlib.sha256(repr(tuple(classes)).encode())
    for part, entries in (("train", train), ("val", val)):
        total.update(part.encode())
        for key, label in sorted(entries):
            total.update(len(key).to_bytes(8) + key + label.to_bytes(8))
    return total.hexdigest()


def _refuse_one_sided(
    val: NDArray[np.bool_], labels: NDArray[np.int64], classes: tuple[str, ...], spec: str
) -> None:
    for label, name in enumerate(classes):
        own = val[labels == label]
        if own.all() or not own.any():
            raise DataError(
                f"{printable(spec)}: class {printable(name)} has {own.size} pictures, {own.sum()} "
                "of them for validation (copies stay together). Expected some for each part. "
                "Add pictures of this class, or give the data a train and a val part."
            )
