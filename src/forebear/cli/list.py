"""forebear list: lists the published networks, or the published weights."""

from __future__ import annotations

import argparse

from forebear.cli import output
from forebear.cli.text_table import columns
from forebear.errors import near_misses
from forebear.tables.registry import NETWORKS, networks

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


def run(args: argparse.Namespace) -> int:
    """Prints the names, or the table of weights.

    Raises:
        ValueError: No name matches the pattern.
    """
    lines = (_weights if args.weights else _networks)(args.pattern)
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


def _weights(pattern: str) -> list[str]:
    from forebear.weights.catalog import PUBLISHED, published

    found = published(pattern) or published(f"*{pattern}*")
    if not found:
        known = {name for row in PUBLISHED for name in (row.network, row.tag)}
        raise ValueError(
            f"PATTERN={pattern!r} matches none of the {len(PUBLISHED)} published weights. Expected "
            f'a network or a tag, or a shell pattern such as "slim/*".{near_misses(pattern, known)}'
        )
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


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
