"""Splits data into training and validation sets, and computes the fingerprint of both."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import Dataset, Images
from forebear.data.decoding_threads import HASHED, DecodingThreads
from forebear.data.groups import Groups
from forebear.data.labels import Labels, having, is_multi, keys
from forebear.data.sources.part_names import Part
from forebear.data.sources.units import distribute, units_of
from forebear.errors import DataError
from forebear.hardware import processor
from forebear.text import printable, truncated

_SHOWN = 3  # groups that are named


def split_validation(
    images: Images,
    *,
    fraction: float,
    spec: str,
    classes: tuple[str, ...],
    side: int,
    mirror: bool = True,
    groups: Groups | None = None,
) -> Dataset:
    """Returns a data set with a fraction of each class split off for validation, by content.

    With `groups`, all images of a group are on one side. If images have several labels, a label
    may be missing from the validation set, but not from the training set.

    Raises:
        DataError: A class is too small to be in both the training and the validation set, or all
            of its images are in one group.
    """
    digests = digests_of(images)
    split = f"{fraction:.0%} of each class held out for validation"
    if groups is None and is_multi(images.labels):
        val = distribute(units_of(digests), images.labels, (1 - fraction, fraction)) == 1
        split = f"about {split.replace('class', 'label')}"
        _refuse_one_sided(val, images, classes, spec)
    elif groups is None:
        val = validating(digests, images.labels, fraction)
        _refuse_one_sided(val, images, classes, spec)
    else:
        units = units_of(digests, groups.numbers)
        val = distribute(units, images.labels, (1 - fraction, fraction)) == 1
        split = f"about {split} in whole groups by {printable(groups.by)}"
        _refuse_one_sided_groups(val, units, images.labels, groups, classes, spec)
    return parted(
        images,
        val,
        digests,
        spec=spec,
        classes=classes,
        side=side,
        mirror=mirror,
        groups=groups,
        split=split,
    )


def parted(
    images: Images,
    val: NDArray[np.bool_],
    digests: Sequence[bytes],
    *,
    spec: str,
    classes: tuple[str, ...],
    side: int,
    mirror: bool,
    groups: Groups | None,
    split: str,
) -> Dataset:
    """Returns a data set whose validation images are a part of all images, chosen by a mask.

    Args:
        images: All images [N].
        val: Mask of the validation images [N].
        digests: The sha256 of each image [N].
        spec: Of the data set.
        classes: Names in the order of the labels.
        side: Default input size, in pixels.
        mirror: Whether a horizontal flip keeps the class.
        groups: Of all images; None if there are no groups.
        split: Says which images are in which part.
    """
    parts = [np.flatnonzero(~val), np.flatnonzero(val)]
    numbers = keys(images.labels)
    entries = [[(digests[i], numbers[i]) for i in part.tolist()] for part in parts]
    sides = zip(("train", "val"), parts, strict=True)
    return Dataset(
        spec=spec,
        classes=classes,
        train=images.take(parts[0]),
        val=images.take(parts[1]),
        side=side,
        mirror=mirror,
        split=f"{split}, chosen by sha256 of the images",
        fingerprint=fingerprint(classes, *entries),
        order=order_of(*entries),
        splits_off=True,
        whole=images,
        groups={} if groups is None else {name: groups.take(part) for name, part in sides},
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
    groups: Mapping[Part, Groups] | None = None,
) -> Dataset:
    """Returns a data set that came with a training and a validation set; `split` describes them."""
    entries = [list(zip(digests_of(part), keys(part.labels), strict=True)) for part in (train, val)]
    return Dataset(
        spec=spec,
        classes=classes,
        train=train,
        val=val,
        side=side,
        mirror=mirror,
        split=split,
        fingerprint=fingerprint(classes, *entries),
        order=order_of(*entries),
        groups=groups or {},
    )


def validating(
    digests: Sequence[bytes], labels: NDArray[np.int64], fraction: float
) -> NDArray[np.bool_]:
    """Returns a mask [N] of the validation images. It does not depend on their order or names.

    In each class, the contents with the smallest hashes are chosen, which is as good as a random
    choice. All copies of an image go to the same set, even if they are labelled differently.
    """
    owner: dict[bytes, int] = {}  # class of each content; the smallest label if copies disagree
    for digest, label in zip(digests, labels.tolist(), strict=True):
        owner[digest] = min(label, owner.get(digest, label))
    contents: dict[int, list[bytes]] = {}
    for digest, label in owner.items():
        contents.setdefault(label, []).append(digest)
    chosen: set[bytes] = set()
    for members in contents.values():
        chosen.update(sorted(members)[: max(1, round(fraction * len(members)))])
    return np.array([digest in chosen for digest in digests], dtype=np.bool_)


def fingerprint(
    classes: Sequence[str],
    train: Iterable[tuple[bytes, int]],
    val: Iterable[tuple[bytes, int]],
) -> str:
    """Returns the sha256 of the class names and the sorted (key, label) pairs of both sets.

    A key is the sha256 of an image's content.
    """
    total = hashlib.sha256(repr(tuple(classes)).encode())
    for part, entries in (("train", train), ("val", val)):
        total.update(part.encode())
        for key, label in sorted(entries):
            total.update(len(key).to_bytes(8) + key + label.to_bytes(8))
    return total.hexdigest()


def order_of(*parts: Iterable[tuple[bytes, int]]) -> str:
    """Returns the sha256 of the keys of all images in their order, which follows the file names."""
    total = hashlib.sha256()
    for key, _ in itertools.chain(*parts):
        total.update(key)
    return total.hexdigest()


def digests_of(images: Images) -> list[bytes]:
    """Returns the sha256 of each image, read by as many threads as there are cores.

    An image that cannot be read counts by its file name, so that the split does not depend on where
    the folder is. It is refused or skipped when it is decoded.
    """

    def digest(index: int) -> bytes:
        try:
            return images.digest(index)
        except DataError:
            name = PurePath(images.name(index)).name
            return hashlib.sha256(os.fsencode(f"unreadable: {name}")).digest()

    with DecodingThreads(processor().cores, low=False) as threads:
        return list(threads.map(digest, range(len(images)), part=HASHED))


def _refuse_one_sided(
    val: NDArray[np.bool_], images: Images, classes: tuple[str, ...], spec: str
) -> None:
    for label, name in enumerate(classes):
        of_class = having(images.labels, label)
        own = val[of_class]
        if _fails(own, images.labels) or not val.any():
            first = printable(images.name(int(np.flatnonzero(of_class)[0])))
            plural = "" if own.size == 1 else "s"
            raise DataError(
                f"{printable(spec)}: class {printable(name)} has {own.size} image{plural} "
                f"({first}{', ...' if plural else ''}), {own.sum()} of them for validation (copies "
                "stay together). Expected at least one for training and one for validation. Add "
                "images of this class, correct its name, or split the data yourself."
            )


def _fails(val: NDArray[np.bool_], labels: Labels) -> bool:
    """Whether one side lacks a class that it must have; `val` is the mask of its images."""
    return bool(val.all()) or not (is_multi(labels) or val.any())


def _refuse_one_sided_groups(
    val: NDArray[np.bool_],
    units: NDArray[np.int64],
    labels: Labels,
    groups: Groups,
    classes: tuple[str, ...],
    spec: str,
) -> None:
    """Refuses a split by groups in which a class, or everything, is on one side.

    Args:
        val: Mask of the validation images [N].
        units: The unit of each image [N]: a group, or several that share copies of an image.
        labels: Class indices [N].
        groups: Of all images.
        classes: Names of the classes.
        spec: Of the data set.
    """

    def fault(what: str, own: NDArray[np.intp]) -> str:
        count = len(np.unique(units[own]))
        if count > 1:
            return (
                f"{what} is in {count} groups by {printable(groups.by)}, which no split was found "
                "for, as other classes need their images"
            )
        names = sorted({groups.name(int(index)) for index in own})
        shown = ", ".join(truncated(name, 60) for name in names[:_SHOWN])
        more = ", ..." if len(names) > _SHOWN else ""
        alike = ", which share copies of images and stay together" if len(names) > 1 else ""
        plural = "s" if len(names) > 1 else ""
        return (
            f"{what} has {len(own):,} images, all of them in the group{plural} {shown}{more} by "
            f"{printable(groups.by)}{alike}"
        )

    faults = [fault("the whole data set", np.arange(len(labels)))] if not units.any() else []
    for label, name in enumerate(classes):
        own = np.flatnonzero(having(labels, label))
        if not faults and _fails(val[own], labels):
            faults.append(fault(f"class {printable(name)}", own))
    if faults:
        raise DataError(
            f"{printable(spec)}: {faults[0]}. Expected at least one group for training and one for "
            "validation in each class. Add images of another group, split the data yourself, or "
            "leave out --group-by."
        )
