"""A description of a planned network: the paper's table 1, all layers and the totals.

Everything is computed from the plan, without torch. `forebear.cli.describe` prints it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from forebear.network.describe.dialect_text import pixels, summary
from forebear.network.plan.cost import Measure, measure, parameters, smallest_side
from forebear.network.plan.expand import output_strides
from forebear.network.plan.plan import ACTIVATIONS, Layer, Plan, Unit
from forebear.tables.files import dialect_to_dict, table_to_dict


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of the paper's table 1."""

    name: str
    shape: tuple[int, int, int]  # of the output: channels, height, width
    text: tuple[str, ...]  # one line for each sequence of identical units


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The shapes and counts of a network, for one input size."""

    plan: Plan
    image_size: int  # side in pixels
    rows: tuple[TableRow, ...]  # table 1 of He et al. 2015
    measures: tuple[Measure, ...]  # every layer and unit, in execution order
    trainable: int
    values: int  # including the running means and variances
    multiply_adds: int  # for one image
    output_strides: tuple[int, ...]  # all that the network supports, smallest first
    smallest_side: int  # pixels; smaller images raise a ValueError
    answers: str  # the most important choices of the dialect, in one line

    def outline(self) -> list[Measure]:
        """Returns the measures without those of the layers inside units."""
        inside = {layer.path for unit in self.plan.units() for layer in unit.layers()}
        return [row for row in self.measures if row.path not in inside]

    def as_dict(self) -> dict[str, Any]:
        """Returns the report as plain data, for `forebear describe --json`."""
        plan = self.plan
        return {
            "network": plan.table.name,
            "dialect": plan.dialect.name,
            "image_size": self.image_size,
            "num_classes": plan.num_classes,
            "output_stride": plan.stride,
            "trainable": self.trainable,
            "values": self.values,
            "multiply_adds": self.multiply_adds,
            "output_strides": list(self.output_strides),
            "smallest_side": self.smallest_side,
            "preprocessing": pixels(plan.dialect.preprocessing),
            "rows": [asdict(row) for row in self.rows],
            "layers": [asdict(row) for row in self.measures],
            "table": table_to_dict(plan.table),
            "answers": dialect_to_dict(plan.dialect),
        }


def report(plan: Plan, image_size: int) -> Report:
    """Returns the report of a planned network.

    Raises:
        ValueError: The image is too small. The message gives the minimum size.
    """
    measures = tuple(measure(plan, image_size))
    shapes = {row.path: row.shape for row in measures}
    rows = [
        TableRow(layer.name, shapes[layer.path], (spell_layer(layer),))
        for layer in (*plan.root, *plan.body)
    ]
    for name, units in plan.blocks:
        rows.append(TableRow(name, shapes[units[-1].path], tuple(_spell_units(units))))
    rows += [
        TableRow(layer.name, shapes[layer.path], (spell_layer(layer),)) for layer in plan.head()
    ]
    trainable, values = parameters(plan)
    inside = {unit.path for unit in plan.units()}
    return Report(
        plan=plan,
        image_size=image_size,
        rows=tuple(rows),
        measures=measures,
        trainable=trainable,
        values=values,
        multiply_adds=sum(row.multiply_adds for row in measures if row.path not in inside),
        output_strides=output_strides(plan.table, plan.dialect),
        smallest_side=smallest_side(plan),
        answers=summary(plan),
    )


def spell_layer(layer: Layer) -> str:
    """Returns one layer in the notation of table 1, "7x7, 64, stride 2"."""
    if layer.kind in ("conv", "pool"):
        side = f"{layer.kernel}x{layer.kernel}"
        said = f"{side} max pool" if layer.kind == "pool" else f"{side}, {layer.channels}"
        said += f", C={layer.groups}" if layer.groups > 1 else ""
        said += f", stride {layer.stride}" if layer.stride > 1 else ""
        return said + (f", rate {layer.rate}" if layer.rate > 1 and layer.kernel > 1 else "")
    return {
        "norm": f"norm, {ACTIVATIONS[layer.activation]}",
        "average": f"average to {layer.side}x{layer.side}",
        "dropout": f"dropout {layer.share:g}",
        "mean": "average over the map",
        "logits": f"{layer.channels}-d linear",
        "identity": "identity",
    }[layer.kind]


def _spell_units(units: tuple[Unit, ...]) -> list[str]:
    """Returns one line for each sequence of identical units.

    A line is "[1x1, 64 | 3x3, 64 | 1x1, 256] x 3", followed by the units that have a stride.
    """
    lines = []
    for spelled, run in groupby(units, key=spell_unit):
        same = list(run)
        steps = [
            f", stride {unit.stride} in {unit.path.rpartition('.')[2]}"
            for unit in same
            if unit.stride > 1
        ]
        lines.append(f"[{spelled}] x {len(same)}{''.join(steps)}")
    return lines


def spell_unit(unit: Unit) -> str:
    """Returns the convolutions of a unit, without strides: "1x1, 64 | 3x3, 64, C=32 | 1x1, 256"."""
    parts = []
    for layer in unit.convs:
        groups = f", C={layer.groups}" if layer.groups > 1 else ""
        rate = f", rate {layer.rate}" if layer.rate > 1 and layer.kernel > 1 else ""
        parts.append(f"{layer.kernel}x{layer.kernel}, {layer.channels}{groups}{rate}")
    return " | ".join(parts)
