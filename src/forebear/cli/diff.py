"""forebear diff: reports how two networks differ."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from forebear.cli import output
from forebear.cli.text_table import columns
from forebear.network.describe.diff import Comparison, Difference, compare
from forebear.network.describe.equivalence import Verdict
from forebear.network.plan.expand import expand
from forebear.network.plan.plan import Plan
from forebear.tables.files import resolve
from forebear.tables.registry import NETWORKS

SUMMARY = "Compares two networks: dialect, table, cost, and whether they compute the same function."
EXAMPLE = "forebear diff slim/resnet_v1_50 keras/ResNet50"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    for name in ("A", "B"):
        parser.add_argument(
            name.lower(),
            metavar=name,
            help="a name from forebear list, or a .toml or .json table file",
        )
    parser.add_argument("--dialect", metavar="D", help="dialect (only for table files)")
    parser.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="input size (default: each as published)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the differences.

    Raises:
        ValueError: A network is unknown, or the input size is too small.
        TableError: A file is not a valid table.
    """
    names = (args.a, args.b)
    if args.dialect is not None and NETWORKS.keys() >= {*names}:
        raise ValueError(
            f"dialect={args.dialect!r}: {args.a} and {args.b} are published networks with their "
            "own dialects. Expected a table file for A or B. Remove --dialect."
        )
    first, second = (_planned(name, args.dialect) for name in names)
    size = args.image_size
    sizes = (first.table.image_size, second.table.image_size) if size is None else (size, size)
    found = compare(first, second, sizes)
    if args.json:
        output.result_json({"first": args.a, "second": args.b, **asdict(found)})
    elif found.identical:
        output.result(f"{args.a} and {args.b}: identical")
    else:
        output.result("\n".join(_text(names, found)))
    return 0


def _planned(name: str, dialect: str | None) -> Plan:
    table, chosen = resolve(name, None if name in NETWORKS else dialect)
    return expand(table, chosen, num_classes=table.classes)


def _text(names: tuple[str, str], found: Comparison) -> list[str]:
    lines = []
    for title, differences in (("dialect", found.dialect), ("table", found.table)):
        lines += [*_differences(title, names, differences), ""]
    return [*lines, *_costs(names, found), "", *_verdict(found.verdict)]


def _differences(
    title: str, names: tuple[str, str], differences: Sequence[Difference]
) -> list[str]:
    if not differences:
        return [f"{title}: no difference"]
    rows = [(title, *names, "")]
    for row in differences:
        rows.append((row.what, row.first, row.second, "" if row.matters else "(no effect here)"))
    return columns(rows, "<<<<")


def _costs(names: tuple[str, str], found: Comparison) -> list[str]:
    sides = dict.fromkeys(f"{side}x{side}" for side in found.image_sizes)
    rows = [(f"at {' and '.join(sides)}", *names, "difference", "")]
    rows.append(_change("trainable parameters", *found.trainable, 1, ""))
    rows.append(_change("all values", *found.values, 1, ""))
    for cost in found.costs:
        rows.append(_change(f"multiply-adds, {cost.part}", cost.first, cost.second, 1e6, " M"))
    rows.append(_change("multiply-adds", *found.multiply_adds, 1e9, " G"))
    return columns(rows, "<>>>>")


def _change(
    what: str, first: int, second: int, scale: float, unit: str
) -> tuple[str, str, str, str, str]:
    def expand(count: int, sign: str = "") -> str:
        return f"{count:{sign},}" if scale == 1 else f"{count / scale:{sign},.3f}{unit}"

    if first == second:
        return what, expand(first), expand(second), "", ""
    percent = f"{100 * (second - first) / first:+.1f} %" if first else ""
    return what, expand(first), expand(second), expand(second - first, "+"), percent


def _verdict(verdict: Verdict) -> list[str]:
    text = {
        "same": "same function in evaluation mode, given the same weights",
        "different": "not the same function, because",
        "unknown": "the plans do not show whether the functions are the same, because",
    }[verdict.answer]
    return [text, *(f"- {line}" for line in (*verdict.reasons, *verdict.notes))]
