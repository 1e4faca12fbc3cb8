"""Chooses one of the sets of weights in a file, and says what was taken and what was left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from forebear.errors import WeightsError
from forebear.network.plan.expand import expand
from forebear.network.plan.plan import Plan
from forebear.text import truncated
from forebear.weights.find_sets import (
    AVERAGE,
    OBJECT,
    WRAPPERS,
    FileNames,
    Wanted,
    WeightSet,
    find_sets,
    is_no_weight,
    parts,
)
from forebear.weights.readers.base import Array, Arrays
from forebear.weights.set_words import is_contrastive

RAW, BODY = "raw", "body"
_GENERIC = ("ema", "average", "averages")  # any average, if there is only one


class RenamedArrays(Arrays):
    """Arrays of a file under other names. Only these are visible."""

    def __init__(self, arrays: Arrays, keys: Mapping[str, str]) -> None:
        """Takes {name: name in the file}."""
        self.path, self.format, self.unbuilt = arrays.path, arrays.format, arrays.unbuilt
        self._arrays, self._keys = arrays, keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __getitem__(self, name: str) -> Array:
        return self._arrays[self._keys[name]]

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of an array."""
        return self._arrays.shape(self._keys[name])

    def dtype(self, name: str) -> np.dtype[Any]:
        """Returns the dtype of an array."""
        return self._arrays.dtype(self._keys[name])

    def close(self) -> None:
        """Closes the file."""
        self._arrays.close()


def sets_of(
    plan: Plan, arrays: Mapping[str, Any], which: str | None = None, *, partial: bool = False
) -> list[WeightSet]:
    """Returns the sets of weights of a network in a file, or in a mapping of arrays.

    Args:
        plan: The network, with logits or without.
        arrays: The arrays of a file, or of a mapping.
        which: As in `choose`; "body" leaves out the head.
        partial: Leave out a head that is not one layer, instead of an error.

    Raises:
        WeightsError: The head of the network is not one layer.
    """
    wanted = Wanted(
        expand(
            plan.table,
            plan.dialect,
            num_classes=plan.table.classes if plan.num_classes is None else plan.num_classes,
            in_channels=plan.in_channels,
            include_root=plan.include_root,
            folded=plan.folded,
        )
    )
    if isinstance(arrays, Arrays):
        whole = arrays.whole
        file = FileNames(whole, whole.shape, whole.scope)
    else:
        file = FileNames(arrays, lambda name: np.shape(arrays[name]))
    try:
        return find_sets(wanted, file, heads=which != BODY)
    except WeightsError:
        if not partial:
            raise
        return find_sets(wanted, file, heads=False)


def taken(arrays: Mapping[str, Any], one: WeightSet) -> Mapping[str, Any]:
    """Returns the arrays of a set, under the names in the library."""
    if isinstance(arrays, Arrays):
        return RenamedArrays(arrays.whole, one.keys)
    return {name: arrays[key] for name, key in one.keys.items()}


def choose(sets: Sequence[WeightSet], which: str | None, arrays: Mapping[str, Any]) -> WeightSet:
    """Returns the set to take: the one that its trainer evaluates, or the one that `which` names.

    timm and torchvision evaluate the average of the weights if a checkpoint has one, DINO evaluates
    the teacher. The slow encoder of contrastive learning only serves its training, and TF-Slim
    evaluates averages only on request, so these are not taken by default.

    Args:
        sets: At least one.
        which: "raw", "ema", "body" for the raw weights without the head, or a name in the file,
            such as "teacher".
        arrays: The file. Of sets with the same values, the first one is taken.

    Raises:
        WeightsError: There is no such set, or several. The message lists the candidates.
    """
    raw = [one for one in sets if not one.is_average]
    averages = [one for one in sets if one.is_average]
    if which is None:
        found = [one for one in averages if _is_evaluated(one)] or raw or averages
        if all(_alike(arrays, found[0], other) for other in found[1:]):
            found = found[:1]
    elif which in (RAW, BODY):
        found = raw or averages
    else:
        found = [one for one in sets if which in (name_of(one, sets), one.label.rstrip("./"))]
        found = found or [one for one in sets if which in parts(one.label)]
        found = found or (averages if which in _GENERIC else [])
    if len(found) != 1:
        names = truncated(", ".join(names_of(sets)), 400)
        what = "there are no such weights" if not found else f"{len(found)} sets of weights fit"
        asked = "no choice of weights" if which is None else f"which={truncated(which)!r}"
        raise WeightsError(
            f"{asked}: {what}. Expected one of {names}. Pass one of these as which, or as --which "
            "on the command line."
        )
    return found[0]


def _is_evaluated(average: WeightSet) -> bool:
    """Whether a training evaluates its averages of the weights, see `choose`."""
    words = parts(average.label)
    return words[-1:] != [AVERAGE] and not any(map(is_contrastive, words))


def _alike(arrays: Mapping[str, Any], one: WeightSet, other: WeightSet) -> bool:
    """Whether two sets have the same values, as if one network was saved under two names."""
    if one.keys.keys() != other.keys.keys():
        return False
    whole = arrays.whole if isinstance(arrays, Arrays) else arrays
    return all(
        np.array_equal(whole[key], whole[other.keys[name]]) for name, key in one.keys.items()
    )


def names_of(sets: Sequence[WeightSet]) -> list[str]:
    """Returns the words for `which` that the sets of a file have, in the order of the file."""
    raw = [one for one in sets if not one.is_average]
    words = [RAW if raw == [one] else name_of(one, sets) for one in sets]
    return list(dict.fromkeys(words))


def name_of(one: WeightSet, sets: Sequence[WeightSet]) -> str:
    """Returns the part of a set's prefix that no other set of the file has, or all of it."""
    others = {part for other in sets if other is not one for part in parts(other.label)}
    own = [part for part in parts(one.label) if part not in others]
    return own[0] if own and len(sets) > 1 else one.label.rstrip("./") or RAW


def describe(
    one: WeightSet, sets: Sequence[WeightSet], names: Sequence[str], unbuilt: Sequence[str]
) -> str:
    """Returns what was taken from a file and what was left, in one line; "" if it is all of it.

    Args:
        one: The set that was taken.
        sets: All sets in the file.
        names: The names of all arrays in the file.
        unbuilt: Classes of objects that were left unbuilt.
    """
    taken = {*one.keys.values()}
    others = [other for other in sets if other is not one and other.keys != one.keys]
    left = [name for name in names if name not in taken and not is_no_weight(name)]
    said = []
    if one.label and (left or others):
        said.append(f"took {len(taken)} arrays of {truncated(one.label.rstrip('./'))}")
    if others:
        options = ", ".join(f"--which {truncated(name_of(other, sets))}" for other in others)
        kind = "averages" if all(other.is_average for other in others) else "other weights"
        said.append(f"the file also has {kind}: {options}")
    known = {key for other in others for key in other.keys.values()}
    scope = parts(one.label)
    groups = Counter(_group(name, scope) for name in left if name not in known)
    if groups:
        listed = ", ".join(f"{name} ({count})" for name, count in groups.most_common(6))
        said.append(f"left: {truncated(listed)}{', ...' if len(groups) > 6 else ''}")
    if one.classes is None and one.left:
        said.append(f"no classifier taken: {truncated(', '.join(one.left[:4]))} do something else")
    if unbuilt:
        said.append(f"left unbuilt: {truncated(', '.join(unbuilt), 400)}")
    return "; ".join(said)


def _group(name: str, scope: Sequence[str]) -> str:
    """Returns the part of a name by which left arrays are counted.

    It is the first part that the names of the set do not have, or a slot of TensorFlow.
    """
    found = parts(name.removesuffix(OBJECT))
    if "/" in name and found[-1][:1].isupper():
        return found[-1]
    while len(found) > 1 and (found[0] in scope or found[0] in WRAPPERS):
        found = found[1:]
    return found[0]
