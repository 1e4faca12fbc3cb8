"""forebear list: names of the published networks."""

from __future__ import annotations

import argparse

from forebear.errors import near_misses
from forebear.tables.registry import NETWORKS, networks

SUMMARY = "Names the published networks, one a line, as forebear.create takes them."
EXAMPLE = 'forebear list "slim/*"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "pattern", nargs="?", default="*", metavar="PATTERN", help='as in "slim/*" (default: all)'
    )


def run(args: argparse.Namespace) -> int:
    """Prints the names.

    Raises:
        ValueError: no name matches the pattern.
    """
    names = networks(args.pattern) or networks(f"*{args.pattern}*")
    if not names:
        raise ValueError(
            f"PATTERN={args.pattern!r} matches none of the {len(NETWORKS)} networks. Expected "
            f'a shell pattern, as in "slim/*".{near_misses(args.pattern, NETWORKS)}'
        )
    print("\n".join(names))
    return 0
