"""Reads a network with its weights off a graph, by the structure of its nodes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from forebear.errors import WeightsError
from forebear.limits import CLASSES
from forebear.network.describe.equivalence import same_function
from forebear.network.plan.expand import expand
from forebear.network.plan.plan import Plan
from forebear.tables.dialects import TORCHVISION_CIFAR, TORCHVISION_V1, Dialect
from forebear.tables.files import preprocessing_from_dict
from forebear.tables.preprocessing import Preprocessing
from forebear.tables.registry import NETWORKS
from forebear.tables.rows import Table
from forebear.text import truncated
from forebear.untrusted import parse_json
from forebear.weights.choose_set import BODY, RAW
from forebear.weights.graphs.chain import match_chain
from forebear.weights.graphs.facts import GraphFacts, StrangerError
from forebear.weights.graphs.fill import GraphArrays, notes
from forebear.weights.graphs.links import Links
from forebear.weights.graphs.match import NAME, Match, match
from forebear.weights.graphs.walk import walk
from forebear.weights.hub_facts import Facts
from forebear.weights.readers.errors import reading, refused
from forebear.weights.readers.graph_file import GraphFile
from forebear.weights.readers.onnx.records import OnnxGraph

_WANTED = "a ResNet, a ResNeXt (residual units of two or three convolutions) or AlexNet v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNetwork:
    """A network in a graph, and what the graph says about it."""

    name: str  # from forebear.networks(), or the table's
    plan: Plan
    arrays: GraphArrays
    facts: Facts


def read_graph(
    arrays: GraphFile,
    which: str | None = None,
    known: tuple[Table, Dialect] | None = None,
) -> GraphNetwork:
    """Returns the network in a graph.

    Args:
        arrays: The file.
        which: "body" leaves out the classifier.
        known: The network that it has to be; None recognises it.

    Raises:
        WeightsError: It is no network of forebear's, or another one than `known`. The message names
            the first node that differs.
    """
    path, graph = arrays.path, arrays.graph
    if which not in (None, RAW, BODY):
        raise WeightsError(
            f"which={truncated(which)!r}: {truncated(path)} has one set of weights. Expected "
            f"{RAW!r}, {BODY!r} or nothing. Remove which, or --which on the command line."
        )
    links = Links(graph, path.parent)
    try:
        with reading(path, arrays.expected):
            try:
                own = _own_preprocessing(graph) or arrays.preprocessing
                facts = walk(links, lambda small: own or _default(small))
                found = match(facts) if facts.units else match_chain(facts)
            except StrangerError as error:
                raise _refusal(arrays, error) from error
    except RecursionError as error:  # no walk is recursive, but the parsers of arrays may be
        raise refused(path, "its graph is nested too deeply", arrays.expected) from error
    if found.dialect.name == NAME:
        found = replace(found, dialect=replace(found.dialect, name=arrays.library))
    name, table, dialect = _published(found)
    plan = _plan(table, dialect, facts, body=which == BODY)
    if known is not None:
        plan = _as_known(arrays, plan, *known)
        name, dialect = plan.table.name, plan.dialect
    said = (
        f"read from {_with_article(arrays.format)}: {_shape(plan)}",
        *notes(plan, facts),
        *_about_images(facts, own, dialect),
        *arrays.notes,
    )
    return GraphNetwork(
        name=name,
        plan=plan,
        arrays=GraphArrays(arrays, plan, links, facts),
        facts=Facts(
            classes=_own_classes(graph),
            preprocessing=facts.preprocessing or own,
            notes=("; ".join(said),),
        ),
    )


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOU' or noun.startswith('MX') else 'a'} {noun}"


def _plan(table: Table, dialect: Dialect, facts: GraphFacts, *, body: bool) -> Plan:
    classes = None if body else facts.head.classes
    return expand(table, dialect, num_classes=classes, in_channels=facts.in_channels)


def _refusal(arrays: GraphFile, error: StrangerError) -> WeightsError:
    hint = f" ({error.hint})" if error.hint else ""
    what = f"this {arrays.format} is no network of forebear: {error.what}{hint}"
    expected = truncated(error.expected, 200)
    return refused(arrays.path, what, f"{_WANTED}; at this node, {expected}", arrays.remedy)


def _default(small: bool) -> Preprocessing:
    return (TORCHVISION_CIFAR if small else TORCHVISION_V1).preprocessing


def _published(found: Match) -> tuple[str, Table, Dialect]:
    """Returns the published network of the same table and dialect, if there is one."""
    for name, entry in NETWORKS.items():
        same = entry.table.blocks == found.table.blocks and entry.table.form == found.table.form
        same = same and entry.table.layers == found.table.layers
        if same and entry.table.root == found.table.root and entry.dialect == found.dialect:
            return name, entry.table, entry.dialect
    return found.table.name, found.table, found.dialect


def _as_known(arrays: GraphFile, plan: Plan, table: Table, dialect: Dialect) -> Plan:
    """Returns the plan of a known network, after a check that the graph computes the same.

    Raises:
        WeightsError: It computes something else.
    """
    known = expand(table, dialect, num_classes=plan.num_classes, in_channels=plan.in_channels)
    verdict = same_function(known, plan)
    shapes = [[layer.channels for layer in one.layers()] for one in (known, plan)]
    if verdict.answer != "same" or shapes[0] != shapes[1]:
        why = next(iter(verdict.reasons), "its layers have other channels")
        raise refused(
            arrays.path,
            f"this graph is another network than {table.name} in dialect {dialect.name}: {why}",
            f"a graph of {table.name}",
            "Pass no network, and it is recognised.",
        )
    return known


def _shape(plan: Plan) -> str:
    blocks = plan.table.blocks
    if not blocks:
        return f"a chain of layers without units, in dialect {plan.dialect.name}"
    units = ", ".join(str(block.units) for block in blocks)
    channels = ", ".join(str(block.channels) for block in blocks)
    groups = sorted({block.groups for block in blocks})
    grouped = "" if groups == [1] else f", {', '.join(map(str, groups))} groups"
    version = "pre-activation " if plan.dialect.order == "pre" else ""
    return (
        f"{version}{plan.table.form} units, {units} in {len(blocks)} blocks of {channels} "
        f"channels{grouped}, in dialect {plan.dialect.name}"
    )


def _about_images(facts: GraphFacts, own: Preprocessing | None, dialect: Dialect) -> Iterator[str]:
    if facts.preprocessing is not None:
        yield (
            "what the graph does to its input is part of the preprocessing: "
            f"mean {_rounded(facts.preprocessing.mean)}, std {_rounded(facts.preprocessing.std)}"
        )
    if own is None:
        whose = "torchvision's networks" if dialect.name == NAME else f"dialect {dialect.name}"
        yield f"the graph names no preprocessing: images are preprocessed as for {whose}"


def _rounded(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


# ---- What forebear writes into its own graphs, in addition to their card


def _own_preprocessing(graph: OnnxGraph) -> Preprocessing | None:
    text = graph.properties.get("preprocessing")
    if text is None or not graph.producer.startswith("forebear"):
        return None
    return preprocessing_from_dict(parse_json(text))


def _own_classes(graph: OnnxGraph) -> tuple[str, ...]:
    """Returns the class names of a graph: those of forebear, or a JSON list of other programs."""
    try:
        found = parse_json(graph.properties.get("classes", "[]"))
    except (ValueError, json.JSONDecodeError):
        return ()
    fits = isinstance(found, list) and len(found) <= CLASSES
    return tuple(found) if fits and all(isinstance(one, str) for one in found) else ()
