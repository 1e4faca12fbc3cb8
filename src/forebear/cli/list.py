"""forebear list: names of the published networks, and of their weights."""

from __future__ import annotations

import argparse

from forebear.cli.text_table import columns
from forebear.errors import near_misses
from forebear.tables.registry import NETWORKS, networks

SUMMARY = "Names the published networks, one a line, as forebear.create takes them."
EXAMPLE = 'forebear list "slim/*"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "pattern", nargs="?", default="*", metavar="PATTERN", help='as in "slim/*" (default: all)'
    )
    parser.add_argument(
        "--weights",
        action="store_true",
        help="the published weights: network, tag (* for the default), accuracy, licence, file",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the names, or the table of weights.

    Raises:
        ValueError: no name matches the pattern.
    """
    lines = (_weights if args.weights else _networks)(args.pattern)
    print("\n".join(lines))
    return 0


def _networks(pattern: str) -> list[str]:
    names = networks(pattern) or networks(f"*{pattern}*")
    if not names:
        raise ValueError(
            f"PATTERN={pattern!r} matches none of the {len(NETWORKS)} networks. Expected "
            f'a shell pattern, as in "slim/*".{near_misses(pattern, NETWORKS)}'
        )
    return names


def _weights(pattern: str) -> list[str]:
    from forebear.weights.catalog import PUBLISHED, published

    found = published(pattern) or published(f"*{pattern}*")
    if not found:
        known = {name for row in PUBLISHED for name in (row.network, row.tag)}
        raise ValueError(
            f"PATTERN={pattern!r} matches none of the {len(PUBLISHED)} published weights. Expected "
            f'a shell pattern of a network or a tag, as in "slim/*".{near_misses(pattern, known)}'
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


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2f}"
