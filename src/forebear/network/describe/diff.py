"""The differences between two planned networks: their dialects, their tables and their cost.

Everything is computed from the plans. `equivalence.py` decides whether both networks compute the
same function.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import zip_longest

from forebear.errors import TableError
from forebear.network.describe.describe import Report, report
from forebear.network.describe.dialect_text import answers
from forebear.network.describe.equivalence import Verdict, same_function
from forebear.network.plan.expand import expand
from forebear.network.plan.plan import Plan
from forebear.tables.preprocessing import Preprocessing
from forebear.tables.rows import Block, Row, Table

NONE = "-"  # a row that one network does not have


@dataclass(frozen=True, slots=True)
class Difference:
    """One property, and its value in each network."""

    what: str
    first: str
    second: str
    matters: bool = True  # False: both values give these networks the same layers


@dataclass(frozen=True, slots=True)
class Cost:
    """The multiply-adds of one part in each network, for one image; 0 if the part is missing."""

    part: str
    first: int
    second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The comparison of two networks."""

    dialect: tuple[Difference, ...]
    table: tuple[Difference, ...]
    image_sizes: tuple[int, int]  # pixels; the multiply-adds are for these sizes
    trainable: tuple[int, int]
    values: tuple[int, int]  # including the running means and variances
    costs: tuple[Cost, ...]  # by part, in execution order
    multiply_adds: tuple[int, int]
    verdict: Verdict

    @property
    def identical(self) -> bool:
        """Whether the networks differ only in their names."""
        return not self.dialect and not self.table and self.image_sizes[0] == self.image_sizes[1]


def compare(first: Plan, second: Plan, image_sizes: tuple[int, int]) -> Comparison:
    """Compares two planned networks.

    Raises:
        ValueError: An image is too small. The message gives the minimum size.
    """
    reports = (report(first, image_sizes[0]), report(second, image_sizes[1]))
    costs = [_costs(found) for found in reports]
    parts = [*costs[0], *(part for part in costs[1] if part not in costs[0])]
    return Comparison(
        dialect=tuple(_answers(first, second)),
        table=tuple(_table(first.table, second.table)),
        image_sizes=image_sizes,
        trainable=(reports[0].trainable, reports[1].trainable),
        values=(reports[0].values, reports[1].values),
        costs=tuple(
            Cost(part, costs[0].get(part, 0), costs[1].get(part, 0))
            for part in _in_order(parts)
            if costs[0].get(part) or costs[1].get(part)
        ),
        multiply_adds=(reports[0].multiply_adds, reports[1].multiply_adds),
        verdict=same_function(first, second),
    )


# Fields of Dialect that affect the plan. Whether such a field matters is found by replanning.
_PLANNED = (
    "order",
    "strided_unit",
    "strided_conv",
    "conv_padding",
    "pool_padding",
    "pool_fill",
    "root_norm",
    "root_relu",
    "bias_before_norm",
    "bias_without_norm",
    "shortcut",
    "shortcut_norm",
    "final_norm",
)


def _answers(first: Plan, second: Plan) -> Iterator[Difference]:
    ours, theirs = answers(first.dialect), answers(second.dialect)
    same_values = _values(first.dialect.preprocessing) == _values(second.dialect.preprocessing)
    for field in {**ours, **theirs}:
        question, mine = ours.get(field, ("", NONE))
        question, yours = theirs.get(field, (question, NONE))
        if same_values and field in _AFFINE:
            continue  # 1/255 - 0.5 / 0.5 is 1/127.5 - 1
        if mine != yours:
            yield Difference(question, mine, yours, _matters(field, first, second))


_AFFINE = ("preprocessing.scale", "preprocessing.mean", "preprocessing.std")


def _values(rule: Preprocessing) -> list[tuple[float, float]]:
    """Returns the factor and the offset of each channel, rounded to about float32 precision."""
    return [
        (float(f"{rule.scale / std:.6g}"), float(f"{mean / std:.6g}"))
        for mean, std in zip(rule.mean, rule.std, strict=True)
    ]


def _matters(field: str, first: Plan, second: Plan) -> bool:
    plans = (first, second)
    if field.startswith("norm_"):
        return any(layer.norm for plan in plans for layer in plan.layers())
    if field not in _PLANNED:
        return True
    return any(
        _layers(_replanned(plan, field, other)) != _layers(plan)
        for plan, other in ((first, second), (second, first))
    )


def _replanned(plan: Plan, field: str, other: Plan) -> Plan | None:
    """Returns the plan with one field of the other dialect; None if it cannot be built."""
    answer = {field: getattr(other.dialect, field)}
    try:
        return expand(
            plan.table,
            replace(plan.dialect, **answer),
            num_classes=plan.num_classes,
            in_channels=plan.in_channels,
            output_stride=plan.output_stride,
        )
    except TableError:
        return None


def _layers(plan: Plan | None) -> object:
    return plan and (plan.root, plan.body, plan.blocks, plan.postnorm)


def _table(first: Table, second: Table) -> Iterator[Difference]:
    for field in ("form", "activation", "shortcuts", "classes", "image_size"):
        mine, yours = getattr(first, field), getattr(second, field)
        if mine != yours:
            yield Difference(field.replace("_", " "), str(mine), str(yours))
    rows = [{row.name: row for row in (*table.root, *table.layers)} for table in (first, second)]
    for name in {**rows[0], **rows[1]}:
        yield from _row(name, rows[0].get(name), rows[1].get(name))
    for mine, yours in zip_longest(first.blocks, second.blocks):
        block = mine or yours
        yield from _row(block.name, mine, yours)


def _row(name: str, mine: Row | Block | None, yours: Row | Block | None) -> Iterator[Difference]:
    if mine is None or yours is None or type(mine) is not type(yours):
        yield Difference(name, _spell(mine), _spell(yours))
        return
    for field in fields(mine):
        one, other = getattr(mine, field.name), getattr(yours, field.name)
        if one != other:
            yield Difference(f"{name} {field.name}", str(one), str(other))


def _spell(row: Row | Block | None) -> str:
    """Returns a short description of a row that only one network has."""
    if row is None:
        return NONE
    if isinstance(row, Block):
        return f"{row.units} units, {row.channels} channels"
    return type(row).__name__.lower()


def _costs(found: Report) -> dict[str, int]:
    """Returns {part: multiply-adds} of the root, of each layer or block, and of the head."""
    parts: dict[str, int] = {}
    outside = {layer.path for layer in found.plan.head()}
    for row in found.outline():
        part = "head" if row.path in outside else row.path.partition(".")[0]
        parts[part] = parts.get(part, 0) + row.multiply_adds
    return parts


def _in_order(parts: list[str]) -> list[str]:
    return [part for part in parts if part != "head"] + ["head"]
