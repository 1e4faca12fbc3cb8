"""Finds out what is in a checkpoint of another library: the network, its weights, its facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from forebear.errors import WeightsError
from forebear.network.plan.expand import expand
from forebear.tables.dialects import Dialect
from forebear.tables.files import resolve
from forebear.tables.preprocessing import Preprocessing
from forebear.tables.registry import NETWORKS, find
from forebear.tables.rows import Table
from forebear.text import truncated
from forebear.weights.choose_set import choose, describe, sets_of, taken
from forebear.weights.find_sets import plain_names
from forebear.weights.flax_resnet import (
    STRIDE_IGNORED,
    TRANSFORMERS_FLAX,
    example_network,
    is_of_transformers,
    needs_config,
    with_backbone,
)
from forebear.weights.graphs.read_graph import read_graph
from forebear.weights.hub_facts import (
    Facts,
    kerashub_facts,
    timm_facts,
    transformers_facts,
)
from forebear.weights.identify import recognise
from forebear.weights.keras_config import config_facts
from forebear.weights.keras_graph import graph_of
from forebear.weights.keras_layers import NoNetworkError
from forebear.weights.kerashub_resnet import is_kerashub, preset_network
from forebear.weights.readers.base import Arrays
from forebear.weights.readers.flax.flax_file import FlaxArrays
from forebear.weights.readers.graph_file import GraphFile
from forebear.weights.readers.hub import HubArrays
from forebear.weights.timm_config import check_timm
from forebear.weights.transformers_resnet import is_transformers, network_of, renamed
from forebear.weights.variable_names import pairs

# The channels of grey images are weighted alike: the mean of a colour checkpoint's three values.
_GREY = "the file names no preprocessing for one channel: images turn grey, with mean {} and std {}"

_FROM_GRAPH = (
    "the network is read from the model_config in the file, which says nothing about images: their "
    "pixels are taken as they are, except for a Rescaling layer"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """The network in a checkpoint, and what the checkpoint says about it."""

    name: str  # from forebear.networks(), or the architecture's
    table: Table
    dialect: Dialect
    num_classes: int | None
    in_channels: int
    arrays: Mapping[str, Any]  # under the names in the dialect's library
    facts: Facts


def understand(arrays: Arrays, which: str | None = None) -> Understood:
    """Returns the network in a checkpoint that does not say which one it holds.

    Raises:
        WeightsError: The network cannot be identified, or the file has no such weights.
    """
    check_timm(arrays)
    if isinstance(arrays, HubArrays) and is_transformers(arrays.config):
        return _in_folder(arrays, which)
    if isinstance(arrays, GraphFile):
        return _in_graph(arrays, which)
    if isinstance(arrays, HubArrays) and is_kerashub(arrays.config):
        table, dialect = preset_network(arrays.config, arrays.path)
        facts = kerashub_facts(arrays.path)
        found = understand_as(table, dialect, arrays, which)
        return replace(found, name=f"kerashub/{table.name}", facts=found.facts | facts)
    if isinstance(arrays, FlaxArrays):
        if is_of_transformers(arrays):
            raise needs_config(arrays)
        known = example_network(arrays)
        if known is not None:
            found = understand_as(*known, arrays, which)
            return replace(found, name=f"flax/{known[0].name}")
    try:
        fit, sets = recognise(arrays, which)
    except WeightsError as error:
        if not arrays.model_config:
            raise
        return _from_graph(arrays, error, which)
    name = fit.network
    said = describe(fit.weights, sets, list(arrays.whole), arrays.unbuilt)
    facts = Facts(notes=_notes(arrays, said))
    if isinstance(arrays, HubArrays):
        own = f"timm/{arrays.config.architecture}"
        name = (
            own if own in NETWORKS and find(own).table.blocks == find(name).table.blocks else name
        )
        facts |= timm_facts(arrays.config)
    table, dialect = fit.entry
    if fit.structure is None:
        table, dialect = resolve(name, None)
    else:
        facts |= Facts(notes=(fit.structure.line,))
    facts |= config_facts(arrays, fit.weights.keys, dialect)
    return Understood(
        name=name,
        table=table,
        dialect=dialect,
        num_classes=fit.num_classes,
        in_channels=fit.in_channels,
        arrays=taken(arrays, fit.weights),
        facts=facts,
    )


def _in_folder(arrays: HubArrays, which: str | None) -> Understood:
    """Returns the network in a folder of transformers."""
    table, dialect = network_of(arrays.config, arrays.path)
    facts = transformers_facts(arrays.path, arrays.config)
    if is_of_transformers(arrays):
        strided = dialect.strided_conv == "conv1"
        facts |= Facts(notes=(STRIDE_IGNORED,) if strided else ())
        dialect, named = TRANSFORMERS_FLAX, with_backbone(arrays)
    else:
        named = renamed(arrays, table, dialect)
    found = understand_as(table, dialect, named, which)
    return replace(found, name=f"transformers/{table.name}", facts=found.facts | facts)


def _from_graph(arrays: Arrays, error: WeightsError, which: str | None) -> Understood:
    """Returns the network in the graph of a Keras model whose names are unknown."""
    try:
        graph = graph_of(arrays)
    except NoNetworkError as reason:
        said = f"{error} Its model_config was read too: {truncated(reason)}."
        raise WeightsError(said) from error
    found = understand_as(graph.table, graph.dialect, graph.arrays, which)
    left = len(arrays) - len(graph.arrays)
    said = f"left: {left} arrays that are not of its layers" if left else ""
    notes = (_FROM_GRAPH, *_notes(arrays, said))
    facts = Facts(preprocessing=graph.preprocessing, notes=notes)
    return replace(found, facts=found.facts | facts)


def _notes(arrays: Mapping[str, Any], said: str) -> tuple[str, ...]:
    """Returns what the reader of a file says about it, and what is said of its arrays."""
    read = arrays.notes if isinstance(arrays, Arrays) else ()
    return (said, *read) if said else read


def understand_as(
    table: Table,
    dialect: Dialect,
    arrays: Mapping[str, Any],
    which: str | None = None,
    *,
    partial: bool = False,
) -> Understood:
    """Returns the weights of a known network in a checkpoint.

    If no set of weights has the network's names, all arrays are returned, so that what is missing
    can be named.

    Raises:
        WeightsError: The file has no such weights.
    """
    check_timm(arrays)
    if isinstance(arrays, GraphFile):
        return _in_graph(arrays, which, (table, dialect))
    plan = expand(table, dialect, num_classes=table.classes)
    sets = sets_of(plan, arrays, which, partial=partial)
    facts = Facts()
    channels, classes = 3, None if sets else _logits(table, dialect, arrays)
    if sets:
        one = choose(sets, which, arrays)
        channels, classes = one.channels, one.classes
        whole = arrays.whole if isinstance(arrays, Arrays) else arrays
        unbuilt = arrays.unbuilt if isinstance(arrays, Arrays) else ()
        said = describe(one, sets, list(whole), unbuilt)
        facts = Facts(notes=_notes(arrays, said)) | config_facts(arrays, one.keys, dialect)
        arrays = taken(arrays, one)
    return Understood(
        name=table.name,
        table=table,
        dialect=dialect,
        num_classes=classes,
        in_channels=channels,
        arrays=arrays,
        facts=facts,
    )


def _in_graph(
    arrays: GraphFile, which: str | None, known: tuple[Table, Dialect] | None = None
) -> Understood:
    """Returns the network in a graph, whose arrays are never taken by their names."""
    found = read_graph(arrays, which, known)
    return Understood(
        name=found.name,
        table=found.plan.table,
        dialect=found.plan.dialect,
        num_classes=found.plan.num_classes,
        in_channels=found.plan.in_channels,
        arrays=found.arrays,
        facts=found.facts,
    )


def _logits(table: Table, dialect: Dialect, arrays: Mapping[str, Any]) -> int | None:
    """Returns the number of logits in arrays of which others may be missing; None if none."""
    last = pairs(expand(table, dialect, num_classes=table.classes))[-1]
    key = plain_names(arrays).get(last.theirs)
    return None if key is None else len(arrays[key])


def for_channels(rule: Preprocessing, channels: int) -> tuple[Preprocessing, tuple[str, ...]]:
    """Returns the preprocessing for a number of input channels, and notes about it.

    The preprocessing is a library's for colour images. Images can only be colour or grey.
    """
    if channels == rule.channels:
        return rule, ()
    if channels == 1:
        mean, std = (round(sum(values) / len(values), 6) for values in (rule.mean, rule.std))
        grey = replace(rule, order="L", mean=(mean,), std=(std,))
        return grey, (_GREY.format(mean, std),)
    return rule, (
        f"the network takes {channels} channels, and images have 1 or 3: pass tensors that are "
        "preprocessed",
    )
