"""forebear list: lists the published networks, or the published weights."""

from __future__ import annotations

import argparse
import fnmatch
from collections.abc import Callable
from typing import TYPE_CHECKING

from forebear.cli import output
from forebear.cli.text_table import columns
from forebear.errors import near_misses
from forebear.tables.registry import NETWORKS, networks

if TYPE_CHECKING:
    from forebear.weights.catalog import Published

SUMMARY = "Lists the published networks, one per line, by the names that forebear.create accepts."
EXAMPLE = 'forebear list "slim/*"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "pattern",
        nargs="?",
        default="*",
        metavar="PATTERN",
        help='shell pattern, such as "slim/*" (default: all)',
    )
    parser.add_argument(
        "--weights",
        action="store_true",
        help="list published weights: network, tag (* for the default), accuracy, licence, file",
    )
    parser.add_argument(
        "--licence",
        metavar="PATTERN",
        help='with --weights: those of this licence, such as "CC-BY-NC*"; "-" for none stated',
    )
    parser.add_argument(
        "--family",
        metavar="PATTERN",
        help='with --weights: those of this family of networks, such as resnext or "resnet*"',
    )


def run(args: argparse.Namespace) -> int:
    """Prints the names, or the table of weights.

    Raises:
        ValueError: No name matches the pattern.
    """
    if not args.weights and (args.licence or args.family):
        raise ValueError(
            "--licence and --family choose among published weights. Expected them with --weights. "
            "Add --weights."
        )
    lines = _weights(args) if args.weights else _networks(args.pattern)
    output.result("\n".join(lines))
    return 0


def _networks(pattern: str) -> list[str]:
    names = networks(pattern) or networks(f"*{pattern}*")
    if not names:
        raise ValueError(
            f"PATTERN={pattern!r} matches none of the {len(NETWORKS)} networks. Expected "
            f'a name or a shell pattern such as "slim/*".{near_misses(pattern, NETWORKS)}'
        )
    return names


def _weights(args: argparse.Namespace) -> list[str]:
    from forebear.weights.catalog import PUBLISHED, published

    pattern = args.pattern
    found = published(pattern) or published(f"*{pattern}*")
    if not found:
        known = {name for row in PUBLISHED for name in (row.network, row.tag)}
        raise ValueError(
            f"PATTERN={pattern!r} matches none of the {len(PUBLISHED)} published weights. Expected "
            f'a network or a tag, or a shell pattern such as "slim/*".{near_misses(pattern, known)}'
        )
    found = _chosen(found, "licence", args.licence, lambda row: row.licence or "-")
    found = _chosen(found, "family", args.family, lambda row: row.family)
    rows = [("network", "tag", "top-1", "top-5", "at px", "licence", "file")]
    for row in found:
        rows.append(
            (
                row.network,
                f"{row.tag} *" if row.default else row.tag,
                _percent(row.top1),
                _percent(row.top5),
                "-" if row.top1 is None else str(row.tested.size),
                row.licence or "-",
                f"{row.hub}/{row.file}" if row.hub else row.file,
            )
        )
    return columns(rows, "<<>>><<")


def _chosen(
    rows: list[Published], option: str, pattern: str | None, say: Callable[[Published], str]
) -> list[Published]:
    """Returns the rows whose property matches a pattern, in either case of letters."""
    wanted = "*" if pattern is None else pattern.lower()
    found = [row for row in rows if fnmatch.fnmatchcase(say(row).lower(), wanted)]
    if not found:
        known = sorted({say(row) for row in rows})
        raise ValueError(
            f"--{option} {pattern!r} matches none of these {len(rows)} published weights. Expected "
            f"one of {', '.join(known)}, or a shell pattern. Pass one of these."
        )
    return found


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
