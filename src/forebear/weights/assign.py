"""Loads arrays into a network. Missing and unexpected arrays are errors that name the arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from forebear.errors import WeightsError, near_misses
from forebear.network.network import Network
from forebear.network.plan.layer_names import naming_scheme_of
from forebear.network.plan.naming_schemes import NAMING_SCHEMES
from forebear.network.plan.plan import Plan
from forebear.text import truncated
from forebear.weights.choose_set import choose, sets_of, taken
from forebear.weights.find_sets import GROUP_SUM, WeightSet, is_no_weight, plain_names
from forebear.weights.graphs.read_graph import read_graph
from forebear.weights.layouts import Array
from forebear.weights.readers.base import Arrays
from forebear.weights.readers.graph_file import GraphFile
from forebear.weights.variable_names import Pair, pairs

_LISTED = 5  # names of each kind in a message
_COMPARED = 1_000  # names that are searched for similar ones


def load_arrays(
    network: Network,
    arrays: Mapping[str, Any],
    *,
    partial: bool = False,
    which: str | None = None,
) -> list[str]:
    """Loads the arrays of the original library into a network.

    Args:
        network: The network. It is modified only if every array fits, or if `partial` is set.
        arrays: {variable name in the original library: array in its layout}, numpy or torch. All
            names of the network may have the same prefix, such as "module."; arrays without it,
            and other arrays of a file, are left, such as those of an optimizer.
        partial: Load only the arrays that fit, for example when fine-tuning with other classes.
        which: The set of weights, if there are several, as for `forebear.load`.

    Returns:
        The state_dict names of the weights that were not loaded. Empty unless `partial` is set.

    Raises:
        WeightsError: Names are missing or unexpected, or shapes are wrong; the message lists them.
            With `partial`, no array fits. The network is unchanged.
    """
    if isinstance(arrays, GraphFile):  # exporters fold norms, and may keep the names
        known = (network.plan.table, network.plan.dialect)
        arrays = read_graph(arrays, which, known).arrays
    try:
        sets = sets_of(network.plan, arrays, which, partial=partial)
        if sets:
            arrays = _chosen(arrays, choose(sets, which, arrays))
    except WeightsError as error:
        where = f"{truncated(arrays.path)}: " if isinstance(arrays, Arrays) else ""
        raise WeightsError(f"{where}{error}") from error
    given = {bare(name): name for name in arrays}
    wanted = pairs(network.plan)
    renamed = _other_logits(network.plan, given)
    given = {renamed.get(name, name): key for name, key in given.items()}
    state: dict[str, torch.Tensor] = {}
    missing, wrong = [], []
    for pair in wanted:
        if pair.theirs not in given:
            if pair.needed:
                missing.append(pair.theirs)
            continue
        array = np.asarray(arrays[given.pop(pair.theirs)])  # one at a time, as readers are lazy
        if array.shape != pair.their_shape:
            wrong.append(f"{pair.theirs} {list(array.shape)}, expected {list(pair.their_shape)}")
            continue
        state[pair.ours] = _tensor(pair, array)
    left = _unexpected({name: arrays[key] for name, key in given.items()})
    fits = any(pair.needed and pair.ours in state for pair in wanted)
    if not fits or (not partial and (missing or wrong or left)):
        raise WeightsError(_complaint(network.plan, missing, wrong, left))
    network.load_state_dict(network.state_dict() | state)
    return [pair.ours for pair in wanted if pair.needed and pair.ours not in state]


def _chosen(arrays: Mapping[str, Any], one: WeightSet) -> Mapping[str, Any]:
    """Returns the arrays of a set, and with them those that nothing explains.

    These are the other arrays of a mapping whose names have no prefix: the caller put them there.
    """
    if one.label or isinstance(arrays, Arrays):
        return taken(arrays, one)
    known = {*one.keys.values()}
    others = {name: key for name, key in plain_names(arrays).items() if key not in known}
    return {**taken(arrays, one), **{name: arrays[key] for name, key in others.items()}}


def bare(name: str) -> str:
    """Returns a name without the suffix of TensorFlow and the prefix of DataParallel."""
    return name.removesuffix(":0").removeprefix("module.")


def _tensor(pair: Pair, array: Array) -> torch.Tensor:
    return torch.from_numpy(np.array(pair.layout.load(array, pair.shape), order="C"))


def _other_logits(plan: Plan, given: Mapping[str, Any]) -> dict[str, str]:
    scheme = NAMING_SCHEMES[naming_scheme_of(plan)]
    wanted = scheme.scopes["logits", "conv"].format(net=plan.table.name)
    others = {}
    for scope in scheme.other_logits:
        for last in ("kernel", "bias"):
            if f"{scope}/{last}" in given:
                others[f"{scope}/{last}"] = f"{wanted}/{last}"
    return others


def _unexpected(given: Mapping[str, Any]) -> list[str]:
    """Returns the unexpected names. Arrays that are not weights are ignored, after a check."""
    left = []
    for name, array in given.items():
        if is_no_weight(name) and not name.endswith(GROUP_SUM):
            continue
        if name.endswith(GROUP_SUM) and _sums_groups(np.asarray(array)):
            continue  # keras-applications' constant kernel: grouped convolutions do not need it
        left.append(name)
    return left


def _sums_groups(kernel: Array) -> bool:
    """Whether a kernel is the constant 0/1 sum over groups in resnet_common.py, block3."""
    if kernel.ndim != 4 or kernel.shape[:2] != (1, 1) or kernel.shape[2] % kernel.shape[3]:
        return False
    filters = kernel.shape[3]
    each = kernel.shape[2] // filters
    inputs, outputs = np.nonzero(kernel[0, 0])
    group, place = np.divmod(inputs, each * each)
    fits = outputs == group * each + place % each
    return bool(
        len(inputs) == filters * each and fits.all() and (kernel[0, 0].sum(0) == each).all()
    )


def _complaint(plan: Plan, missing: list[str], wrong: list[str], left: list[str]) -> str:
    """Returns one line that names the first arrays of each kind."""
    parts = []
    for title, names in (("missing", missing), ("unexpected", left), ("shape", wrong)):
        listed = [
            truncated(name) + (near_misses(name, left[:_COMPARED]) if title == "missing" else "")
            for name in sorted(names)[:_LISTED]
        ]
        if len(names) > _LISTED:
            listed.append(f"and {len(names) - _LISTED} more")
        parts += [f"{title}: {', '.join(listed)}"] if names else []
    return (
        f"the arrays do not fit {plan.table.name} in dialect {plan.dialect.name}: {len(missing)} "
        f"missing, {len(left)} unexpected, {len(wrong)} of the wrong shape ({'; '.join(parts)}). "
        f"Expected the {len(pairs(plan))} arrays that `forebear describe --names` lists. Pass the "
        "network that the checkpoint was made from."
    )
