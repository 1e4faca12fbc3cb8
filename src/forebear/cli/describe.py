"""forebear describe: prints a network as table 1, layers or array names, or draws it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.cli import output
from forebear.cli.text_table import columns
from forebear.network.describe.describe import Report, report
from forebear.network.plan.cost import Measure
from forebear.network.plan.expand import expand
from forebear.network.plan.layer_names import naming_scheme_of
from forebear.network.plan.plan import Plan
from forebear.tables.files import resolve
from forebear.tables.registry import NETWORKS
from forebear.text import printable

if TYPE_CHECKING:
    from forebear.weights.variable_names import Pair

SUMMARY = (
    "Prints a network as table 1 of the paper, the end points and costs of layers, and totals."
)
EXAMPLE = "forebear describe slim/resnet_v1_50 --output-stride 8"
MANY = 100  # units; in deeper networks, consecutive equal units are merged into one line

_HEADER = (
    "end point",
    "output",
    "parameters",
    "multiply-adds",
    "stride",
    "rate",
    "receptive field",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "network",
        metavar="NAME",
        help="a name from forebear list, a .toml or .json table file, a run folder, a checkpoint "
        "in any format, or hf:OWNER/NAME",
    )
    parser.add_argument("--dialect", metavar="D", help="dialect (required for a table file)")
    parser.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="input size (default: as published)"
    )
    parser.add_argument(
        "--output-stride",
        type=int,
        metavar="N",
        help="ratio of input size to feature map size (default: that of the network)",
    )
    parser.add_argument(
        "--num-classes", type=int, metavar="N", help="number of logits (default: as published)"
    )
    parser.add_argument(
        "--names",
        metavar="LIBRARY",
        help="list every array instead: forebear's name, and the name, layout and shape in slim, "
        "keras, torchvision or timm",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--layers", action="store_true", help="also list the layers inside units")
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--draw", type=Path, metavar="FILE", help="draw the network: .svg or .png")


def run(args: argparse.Namespace) -> int:
    """Prints the description, or draws it.

    Raises:
        ValueError: The network is unknown, or cannot be built with these arguments.
        TableError: The file is not a valid table.
        ForebearError: The run or the checkpoint cannot be read.
    """
    planned, size = _of_weights(args) if _has_weights(args.network) else _of_table(args)
    if args.names is not None:
        _print_names(planned, args)
        return 0
    found = report(planned, size if args.image_size is None else args.image_size)
    if args.draw is not None:
        from forebear.network.describe.drawing import draw

        title = args.network if args.network in NETWORKS else planned.table.name
        draw(found, args.draw, title=title)
        output.note(f"drawn: {args.draw}")
    elif args.json:
        output.result_json(found.as_dict())
    else:
        output.result("\n".join(_text(found, layers=args.layers)))
    return 0


def _of_table(args: argparse.Namespace) -> tuple[Plan, int]:
    """Returns a network that has a name or a table, and the size of its images in pixels."""
    table, dialect = resolve(args.network, args.dialect)
    classes = table.classes if args.num_classes is None else args.num_classes
    planned = expand(table, dialect, num_classes=classes, output_stride=args.output_stride)
    return planned, table.image_size


def _has_weights(name: str) -> bool:
    """Whether a name is that of a run or a checkpoint, rather than of a network or a table."""
    if name in NETWORKS or name.endswith((".toml", ".json")):
        return False
    return name.startswith("hf:") or Path(name).exists()


def _of_weights(args: argparse.Namespace) -> tuple[Plan, int]:
    """Returns the network of a run or a checkpoint, and the size of its images in pixels.

    Its dialect has the preprocessing of the weights.
    """
    if args.dialect is not None:
        raise ValueError(
            f"--dialect with {printable(args.network)}: expected --dialect with a table only, as "
            "weights have a dialect of their own. Remove --dialect."
        )
    from forebear.cli.load_model import load_model  # imports torch

    own = argparse.Namespace(weights=None, network=None, which=None)
    network = load_model(Path(args.network), own)
    rule = network.preprocessing
    dialect = replace(network.dialect, preprocessing=rule)
    planned, size = replace(network.plan, dialect=dialect), rule.size
    if args.num_classes is None and args.output_stride is None:
        return planned, size
    classes = planned.num_classes if args.num_classes is None else args.num_classes
    changed = expand(
        planned.table,
        dialect,
        num_classes=classes,
        in_channels=planned.in_channels,
        output_stride=args.output_stride,
    )
    return changed, size


def _print_names(planned: Plan, args: argparse.Namespace) -> None:
    from forebear.weights.variable_names import pairs  # imports numpy

    if args.layers or args.draw is not None:
        other = "--layers" if args.layers else "--draw"
        raise ValueError(
            f"--names with {other}: expected --names alone or with --json. Remove one of them."
        )
    library, found = naming_scheme_of(planned, args.names), pairs(planned, args.names)
    if args.json:
        output.result_json(_names_as_dict(planned, library, found))
        return
    rows = [("forebear", library, "layout", "shape")]
    rows += [(pair.ours, pair.theirs, pair.axes, str([*pair.their_shape])) for pair in found]
    output.result("\n".join(columns(rows, "<<<<")))


def _names_as_dict(planned: Plan, library: str, found: Sequence[Pair]) -> dict[str, Any]:
    return {
        "network": planned.table.name,
        "dialect": planned.dialect.name,
        "names": library,
        "arrays": [
            {
                "ours": pair.ours,
                "theirs": pair.theirs,
                "layout": pair.axes,
                "shape": pair.their_shape,
            }
            for pair in found
        ],
    }


def _text(found: Report, *, layers: bool) -> list[str]:
    measures = found.measures if layers else found.outline()
    return [*_table1(found), "", *_listing(measures), "", *_totals(found)]


def _table1(found: Report) -> list[str]:
    rows = [(found.plan.table.name, "output", f"dialect {found.plan.dialect.name}")]
    for row in found.rows:
        output = f"{row.shape[1]}x{row.shape[2]}"
        rows.append((row.name, output, row.text[0]))
        rows += [("", "", line) for line in row.text[1:]]
    return columns(rows, "<><")


def _listing(measures: Sequence[Measure]) -> list[str]:
    rows = [_HEADER]
    many = sum(row.kind == "unit" for row in measures) > MANY
    for _, run in groupby(measures, key=_alike if many else lambda row: (row.path,)):
        same = list(run)
        first, last = same[0], same[-1]
        path = first.path
        fields = [_pixels(row.receptive_field) for row in (first, last)]
        field = fields[0]
        if last is not first:
            path += f" to {last.path.rpartition('.')[2]}"
            field = f"{fields[0]} to {fields[1]}"
        rows.append(
            (
                path,
                "x".join(map(str, first.shape)),
                f"{first.trainable:,}",
                f"{first.multiply_adds / 1e6:,.3f} M",
                str(first.stride),
                str(first.rate),
                field,
            )
        )
    return columns(rows, "<>>>>>>")


def _alike(row: Measure) -> tuple[object, ...]:
    if row.kind != "unit":
        return (row.path,)
    block = row.path.partition(".")[0]
    return (block, row.shape, row.trainable, row.multiply_adds, row.stride, row.rate)


def _pixels(field: int | None) -> str:
    return "all" if field is None else str(field)


def _totals(found: Report) -> list[str]:
    strides = ", ".join(map(str, found.output_strides))
    size, side = found.image_size, found.smallest_side
    source = found.plan.table.source
    return columns(
        [
            *([("source", source)] if source else []),
            ("trainable parameters", f"{found.trainable:,}"),
            ("all values", f"{found.values:,} including moving means and variances"),
            ("multiply-adds", f"{found.multiply_adds / 1e9:.3f} G at {size}x{size}"),
            ("output strides", f"{strides} (here {found.plan.stride})"),
            ("smallest input", f"{side}x{side}"),
            ("dialect", f"{found.plan.dialect.name}: {found.answers}"),
        ],
        "<<",
    )
