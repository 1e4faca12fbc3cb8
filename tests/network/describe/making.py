"""Small tables, and the reports and drawings of networks."""

from __future__ import annotations

from pathlib import Path

from forebear.network.describe.describe import Report, report
from forebear.network.describe.drawing import draw
from forebear.network.plan.expand import expand
from forebear.network.plan.plan import Plan
from forebear.tables.dialects import Dialect
from forebear.tables.registry import find
from forebear.tables.rows import Block, Conv, Form, Pool, Table


def reported(name: str, output_stride: int | None = None) -> Report:
    table, dialect = find(name)
    planned = expand(table, dialect, num_classes=table.classes, output_stride=output_stride)
    return report(planned, table.image_size)


def svg(found: Report, folder: Path) -> str:
    file = folder / "net.svg"
    draw(found, file, title="a title")
    return file.read_text(encoding="utf-8")


def tiny(form: Form = "bottleneck", *, pool: bool = True) -> Table:
    widen = 2 if form == "bottleneck" else 1
    root = (Conv("conv1", 4, 3), Pool("pool1")) if pool else (Conv("conv1", 4, 3),)
    blocks = (
        Block("block1", 2, 4, 4 * widen),
        Block("block2", 2, 6, 6 * widen, stride=2),
        Block("block3", 2, 8, 8 * widen, stride=2),
    )
    return Table("tiny", root, form, blocks, classes=5, image_size=32)


def planned(table: Table, dialect: Dialect) -> Plan:
    return expand(table, dialect, num_classes=table.classes)
