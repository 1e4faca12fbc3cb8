"""Which images of a data set are evaluated, and which logit stands for each of its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import Dataset, Images, joined
from forebear.data.fold import Fold
from forebear.data.labels import Labels, is_multi
from forebear.data.sources.fold_split import split_fold
from forebear.data.sources.group_by import refuse_shared_groups
from forebear.data.sources.read_options import ReadOptions
from forebear.data.sources.registry import read_data
from forebear.errors import DataError, near_misses
from forebear.tables.imagenet_classes import class_names, synset_name
from forebear.text import printable

# Data sets whose classes have official numbers, by their title
_NUMBERED = {"ImageNet": "imagenet-1000", "CIFAR-10": "cifar10"}

PartName = Literal["val", "train", "test", "all"]


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Images, and a sentence that says which they are."""

    images: Images
    said: str


def read_own(spec: str, reading: ReadOptions, metrics: Mapping[str, object]) -> Dataset:
    """Reads a data set, split as in training if a fold of a cross-validation was trained on it.

    Args:
        spec: As in `read_data`.
        reading: Columns, folder and groups of the data set.
        metrics: Of the network's card. They name its fold, and its images by their fingerprint.

    Raises:
        DataError: The data cannot be read, or parts that came with them have a group in common.
    """
    data = read_data(spec, reading)
    refuse_shared_groups(data)
    try:
        own = split_fold(data, Fold.parse(str(metrics.get("fold"))))
    except (ValueError, DataError):  # no fold, or images that have no such folds
        return data
    return own if own.fingerprint == metrics.get("fingerprint") else data


def choose_images(data: Dataset, part: str | None, metrics: Mapping[str, object]) -> EvaluationSet:
    """Returns the images to evaluate.

    Args:
        data: As it was read.
        part: val, train, test or all; None takes the validation images if they came with the data
            or if the network was trained on the others, else all images.
        metrics: Of the network's card. They name the data set that it was trained on.

    Raises:
        ValueError: `part` is none of these.
        DataError: The data set has no such part.
    """
    if part is None:
        own = data.fingerprint in (metrics.get("fingerprint"), metrics.get("data_fingerprint"))
        part = "val" if data.whole is None or own else "all"
        why = ": the network was trained on the others" if own and data.whole is not None else ""
    else:
        why = ""
    if part not in get_args(PartName):
        raise ValueError(
            f"part={part!r}: expected one of {', '.join(get_args(PartName))}. Pass one of these."
        )
    held: dict[str, Images] = {"train": data.train, "val": data.val}
    if data.test is not None:
        held["test"] = data.test
    count = sum(map(len, held.values()))
    if part == "all":
        whole = data.whole if data.test is None else None
        images = joined(list(held.values())) if whole is None else whole
        return EvaluationSet(images, f"{printable(data.spec)}: all {count:,} images")
    images = held.get(part, data.val)
    if part not in held:
        raise DataError(
            f"{printable(data.spec)}: no test part. Expected one of {', '.join(held)}, all. "
            "Pass another part."
        )
    names = {"val": "validation", "train": "training", "test": "test"}
    origin = data.origins.get(part)
    where = f" from {origin}" if origin and data.whole is None else ""
    return EvaluationSet(
        images,
        f"{printable(data.spec)}: the {len(images):,} {names[part]} images{where}, "
        f"of {count:,} in all{why}",
    )


def other_split(data: Dataset, metrics: Mapping[str, object]) -> str:
    """Returns a warning if the validation images are other ones than in training, else "".

    Args:
        data: As it was read.
        metrics: Of the network's card. They say by which groups the images were split.
    """
    by = metrics.get("group_by")
    known = (metrics.get("fingerprint"), metrics.get("data_fingerprint"))
    if not by or data.whole is None or data.groups or data.fingerprint in known:
        return ""
    return (
        f"the network was trained with --group-by {printable(by)}: if these are the same images, "
        "pass it, or images that it was trained on are evaluated"
    )


@dataclass(frozen=True, slots=True)
class ClassMatch:
    """The logit of each class of a data set, and how they were matched."""

    numbers: NDArray[np.int64]  # [classes of the data set]
    said: str


def match_classes(known: Sequence[str], logits: int, data: Dataset) -> ClassMatch:
    """Returns the index of the logit of each class of a data set.

    Classes are matched by their names. Networks of ImageNet also take WordNet IDs, such as
    n01440764. Data whose classes are numbers are matched by number only with a network of ImageNet
    or CIFAR-10, whose numbers are well known, and with a network that has no class names.

    Args:
        known: Class names of the network, in the order of the logits; empty if it has none.
        logits: Number of logits.
        data: Its class names, in the order of its labels.

    Raises:
        DataError: The network does not have one of the classes.
    """
    names = data.classes
    place = {name: at for at, name in enumerate(known)}
    if known and all(name in place for name in names):
        return _match([place[name] for name in names], "classes are matched by name")
    words = [synset_name(name) for name in names]
    if known and all(word is not None and word in place for word in words):
        return _match([place[str(word)] for word in words], "classes are matched by WordNet ID")
    numbers = _numbers(names)
    for title, published in _NUMBERED.items():
        own = class_names(published)
        if numbers is not None and max(numbers) < len(own) and tuple(known[-len(own) :]) == own:
            first = len(known) - len(own)  # 1 if the first logit is "background"
            return _match([first + n for n in numbers], f"classes are matched by {title}'s number")
    if not known and numbers is not None and max(numbers) < logits:
        return _match(numbers, "classes are matched by number: the network has no class names")
    if not known and numbers is None and len(names) == logits:
        return _match(
            list(range(logits)), "classes are matched by order: the network has no class names"
        )
    raise _unknown(known, logits, data)


def matched(labels: Labels, match: ClassMatch, logits: int) -> Labels:
    """Returns the labels of images in the order of the logits.

    Args:
        labels: In the order of the classes of the data set. If they are multi-label, labels of the
            network that the data set does not have are 0.
        match: Of these classes.
        logits: Number of logits.
    """
    if not is_multi(labels):
        return match.numbers[labels]
    found = np.zeros((len(labels), logits), np.uint8)
    found[:, match.numbers] = labels
    return found


def _match(numbers: list[int], said: str) -> ClassMatch:
    return ClassMatch(np.array(numbers, dtype=np.int64), said)


def _numbers(names: Sequence[str]) -> list[int] | None:
    """Returns the classes as numbers; None if they have other names."""
    plain = all(name.isascii() and name.isdigit() and len(name) < 10 for name in names)
    return [int(name) for name in names] if plain else None


def _unknown(known: Sequence[str], logits: int, data: Dataset) -> DataError:
    shown = printable(data.spec)
    if not known:
        return DataError(
            f"{shown}: {len(data.classes)} classes, but the network has {logits} logits without "
            f"names. Expected {logits} classes, or classes named by numbers below {logits}. "
            "Pass the data that the network was trained on."
        )
    unknown = sorted(set(data.classes) - set(known))
    near = near_misses(unknown[0], known)
    return DataError(
        f"{shown}: its class {unknown[0]!r} is unknown to the network ({len(unknown)} such "
        f"classes).{near} Expected classes among {', '.join(map(printable, known[:10]))}"
        f"{', ...' if len(known) > 10 else ''}. "
        "Pass data with the classes that the network was trained on."
    )
