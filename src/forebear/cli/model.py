"""The model that a verb is to use: a run's folder, a checkpoint, or a name with its weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forebear.network.network import Network


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that stand in for a run's folder."""
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help='in place of RUN: a checkpoint of any kind, or "published" with --network',
    )
    parser.add_argument(
        "--network", metavar="NAME", help="that the weights are of (default: recognised)"
    )


def load_model(run: Path | None, args: argparse.Namespace) -> Network:
    """The network, in evaluation mode.

    Raises:
        ValueError: not exactly one of a run and weights.
        ForebearError: a run or a checkpoint that cannot be used.
    """
    if (run is None) == (args.weights is None) or (run is not None and args.network):
        raise ValueError(
            "RUN and --weights: expected one of them, and --network with --weights alone. "
            "Pass a run's folder, or --weights FILE."
        )
    if run is not None:
        from forebear.tasks.train.folder import load_run

        return load_run(run)
    from forebear.weights.load import load

    if args.network is None:
        return load(args.weights)
    return load(args.network, weights=args.weights)
