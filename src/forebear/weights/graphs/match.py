"""Finds the table and the dialect whose plan is the network in a graph, layer by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

from forebear.errors import TableError
from forebear.network.plan.expand import expand
from forebear.network.plan.plan import Plan
from forebear.tables import dialects
from forebear.tables.dialects import Dialect, Names, Shortcut
from forebear.tables.rows import Block, Conv, Form, Pool, Table
from forebear.weights.graphs.compare import Difference, first_difference
from forebear.weights.graphs.facts import (
    ConvFact,
    GraphFacts,
    NormFact,
    PoolFact,
    StrangerError,
    UnitFact,
)
from forebear.weights.variable_names import pairs

NAME = "onnx"  # of a dialect that is none of the known ones
_EPSILON = 1e-5  # of a network whose norms are all folded
_FORMS: dict[tuple[int, ...], Form] = {(3, 3): "basic", (1, 3, 1): "bottleneck"}
# Dialects that are taken where their function is the graph's. The first ones come first.
_KNOWN = (
    dialects.TORCHVISION_V1,
    dialects.TIMM_PREACT,
    dialects.TIMM_PREACT_BASIC,
    dialects.PAPER_V1,
    dialects.PAPER_V1_A,
    dialects.PAPER_V1_C,
    dialects.PAPER_V2_IMAGENET,
    dialects.PAPER_RESNEXT,
)
_KNOWN_SMALL = (
    dialects.TORCHVISION_CIFAR,
    dialects.TIMM_PREACT,
    dialects.TIMM_PREACT_BASIC,
    dialects.PAPER_CIFAR,
    dialects.PAPER_V2,
    dialects.PAPER_V2_A,
)
# What does not change the function in evaluation, or where the weights go.
_FREE = (
    "name", "norm_decay", "norm_variance", "head", "background", "init", "names", "preprocessing",
)  # fmt: skip
_SHORTCUTS: tuple[Shortcut, ...] = ("change", "widen", "first", "always", "after", "split")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A network that a graph is."""

    table: Table
    dialect: Dialect
    plan: Plan


def is_small(facts: GraphFacts) -> bool:
    """Whether the root is that for small images: He et al. 2015, section 4.2."""
    return len(facts.root) == 1


def match(facts: GraphFacts) -> Match:
    """Returns the table and the dialect whose plan has the same layers as a graph.

    Raises:
        StrangerError: There is none. The message names the first node that differs.
    """
    worst = Difference(-1, "its layers cannot be planned", "a ResNet or a ResNeXt")
    for table, dialect in _candidates(facts):
        try:
            plan = expand(
                table, dialect, num_classes=facts.head.classes, in_channels=facts.in_channels
            )
        except (TableError, ValueError) as error:
            if worst.place < 0:
                worst = Difference(-1, str(error).partition(". Expected")[0], worst.expected)
            continue
        found = first_difference(plan, facts)
        if found is None:
            return _named(table, dialect, facts)
        worst = found if found.place > worst.place else worst
    raise StrangerError(worst.what, worst.expected)


def _named(table: Table, dialect: Dialect, facts: GraphFacts) -> Match:
    """Returns the match in a known dialect of the same function, if there is one."""
    known = [one for one in _known(facts) if _function(one) == _function(dialect)]
    schemes: tuple[Names, ...] = (dialect.names, "torchvision", "timm-v2", "cifar")
    others = [replace(dialect, names=names) for names in schemes]
    for one in (*known, *others):
        plan = expand(table, one, num_classes=facts.head.classes, in_channels=facts.in_channels)
        try:
            pairs(plan)
        except ValueError:  # it has no names for these layers
            continue
        return Match(table=table, dialect=one, plan=plan)
    raise StrangerError(
        f"its root has {len(facts.root)} layers", "one convolution, and a max pool after it",
        "a ResNet-C or a ResNet-D begins with three convolutions",
    )  # fmt: skip


def _known(facts: GraphFacts) -> tuple[Dialect, ...]:
    return _KNOWN_SMALL if is_small(facts) else _KNOWN


def _function(dialect: Dialect) -> Dialect:
    """Returns a dialect in which two that compute the same are equal."""
    base = dialects.TORCHVISION_V1
    return replace(dialect, **{name: getattr(base, name) for name in _FREE})


def _candidates(facts: GraphFacts) -> Iterator[tuple[Table, Dialect]]:
    form = _form(facts)
    for strided_unit in ("first", "last"):
        table = _table(facts, form, strided_unit == "last")
        if table is None:
            continue
        dialect = replace(_dialect(facts, form), strided_unit=strided_unit)
        assert {*_SHORTCUTS} == {*get_args(Shortcut)}
        for shortcut in _SHORTCUTS:
            yield table, replace(dialect, shortcut=shortcut)


def _form(facts: GraphFacts) -> Form:
    for unit in facts.units:
        kernels = tuple(conv.window.kernel for conv in unit.convs)
        first = tuple(conv.window.kernel for conv in facts.units[0].convs)
        if kernels not in _FORMS or kernels != first:
            raise StrangerError(
                f"the unit before node {unit.join.shown} has kernels of {list(kernels)} pixels",
                "two of 3 pixels, or 1, 3 and 1, in all units",
            )
    return _FORMS[first]


def _dialect(facts: GraphFacts, form: Form) -> Dialect:
    """Returns the dialect of a graph, but for the shortcuts and the strided units."""
    units, rows = facts.units, facts.root
    pre = any(unit.preact is not None for unit in units)
    root_norm = not pre or units[0].preact is None
    first = next((row for row in rows if isinstance(row, ConvFact)), None)
    pools = [row for row in rows if isinstance(row, PoolFact)]
    bare = [conv for unit in units for conv in (unit.convs[-1], unit.shortcut) if pre]
    bare += [first] if first is not None and not root_norm else []
    late = [u.convs[1] for u in units if len(u.convs) > 2 and u.convs[0].window.stride == 1]
    strided = [conv for conv in facts.convs() if conv.window.stride > 1 and conv.window.kernel > 1]
    base = dialects.TORCHVISION_CIFAR if is_small(facts) else dialects.TORCHVISION_V1
    if pre:
        base = replace(dialects.TIMM_PREACT, preprocessing=base.preprocessing)
    return replace(
        base,
        name=NAME,
        strided_conv=_strided_conv(facts, form, late),
        conv_padding=_padding([conv.window for conv in strided]),
        pool_padding=_padding([pool.window for pool in pools]),
        pool_fill=next((pool.fill for pool in pools if not _positive(facts, pool)), "lowest"),
        norm_eps=_epsilon(facts.norms()),
        root_norm=root_norm,
        root_relu=first is not None and first.relu,
        bias_before_norm=False,
        bias_without_norm=any(
            isinstance(conv, ConvFact) and (conv.bias is not None or conv.norm is not None)
            for conv in bare
        ),
        final_norm=facts.head.postnorm is not None,
    )


def _positive(facts: GraphFacts, pool: PoolFact) -> bool:
    """Whether a pool follows a ReLU, so that zeros around the map change nothing."""
    before = facts.root[max(0, facts.root.index(pool) - 1)]
    return isinstance(before, ConvFact) and before.relu


def _strided_conv(facts: GraphFacts, form: Form, late: list[ConvFact]) -> Literal["conv1", "conv2"]:
    first = any(unit.convs[0].window.stride > 1 for unit in facts.units)
    if form == "bottleneck" and first and not any(conv.window.stride > 1 for conv in late):
        return "conv1"
    return "conv2"


def _padding(windows: list) -> Literal["explicit", "same"]:  # type: ignore[type-arg]
    equal = all(one.pads_equally(one.kernel // 2) or one.pads_equally(0) for one in windows)
    return "explicit" if equal or not all(one.pads_same for one in windows) else "same"


def _epsilon(norms: list[NormFact]) -> float:
    found = Counter(norm.epsilon for norm in norms).most_common(1)
    return found[0][0] if found else _EPSILON


def _table(facts: GraphFacts, form: Form, last: bool) -> Table | None:
    """Returns the table of a graph; `last`: the last unit of the block above has the stride."""
    root = list[Conv | Pool]()
    for row in facts.root:
        window = row.window
        if isinstance(row, ConvFact):
            number = 1 + sum(isinstance(one, Conv) for one in root)
            half = window.kernel // 2
            plain = window.pads_equally(half) or window.pads == "same" or window.pads_same
            own: int | Literal["same"] = "same"
            if window.pads != "same" and not plain:
                own = window.pads[0]
            root.append(Conv(f"conv{number}", row.channels, window.kernel, window.stride, own))
        else:
            number = 1 + sum(isinstance(one, Pool) for one in root)
            valid = window.pads_equally(0) and window.kernel > window.stride
            kind: Literal["same", "valid"] = "valid" if valid else "same"
            root.append(Pool(f"pool{number}", window.kernel, window.stride, kind))
    layers = 2 + sum(len(unit.convs) for unit in facts.units)
    blocks = _blocks(facts.units, last)
    grouped = any(block.groups > 1 for block in blocks)
    try:
        return Table(
            f"resne{'x' if grouped else ''}t{layers}",
            tuple(root),
            form,
            blocks,
            image_size=32 if is_small(facts) else 224,
        )
    except TableError:
        return None


def _blocks(units: tuple[UnitFact, ...], last: bool) -> tuple[Block, ...]:
    """Returns the rows of the units: a new one begins where the units change."""
    runs: list[list[UnitFact]] = []
    everywhere = all(isinstance(unit.shortcut, ConvFact) for unit in units)
    for unit in units:
        before = runs[-1][-1] if runs else None
        changed = before is None or _kind(before) != _kind(unit)
        strided = before is not None and _stride(before if last else unit) > 1
        projected = isinstance(unit.shortcut, ConvFact) and not everywhere
        if changed or strided or projected:
            runs.append([])
        runs[-1].append(unit)
    rows = []
    for number, run in enumerate(runs, start=1):
        (channels, width, groups, rate), stride = _kind(run[0]), _stride(run[0])
        if last and number > 1:
            stride = _stride(runs[number - 2][-1])
        elif last and len(run) == 1 and len(runs) > 1:
            stride = 1
        rows.append(
            Block(f"block{number}", len(run), width, channels, stride, groups=groups, rate=rate)
        )
    return tuple(rows)


def _kind(unit: UnitFact) -> tuple[int, int, int, int]:
    """Returns the channels, the width, the groups and the rate of a unit."""
    wide = next(conv for conv in unit.convs if conv.window.kernel > 1)
    return unit.convs[-1].channels, wide.channels, wide.groups, wide.window.rate


def _stride(unit: UnitFact) -> int:
    return max(conv.window.stride for conv in unit.convs)
