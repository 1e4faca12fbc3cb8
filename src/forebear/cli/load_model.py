"""Loads the model for a verb: from a run folder, a checkpoint, or published weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from forebear.network.network import Network


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that replace a run folder."""
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help='instead of RUN: a checkpoint in any format, or "published" with --network',
    )
    parser.add_argument(
        "--network", metavar="NAME", help="network of the weights (default: detected)"
    )


def load_model(run: Path | None, args: argparse.Namespace) -> Network:
    """Returns the network in evaluation mode.

    Raises:
        ValueError: Both or neither of `run` and --weights are given.
        ForebearError: The run or the checkpoint cannot be used.
    """
    if (run is None) == (args.weights is None) or (run is not None and args.network):
        raise ValueError(
            "RUN and --weights: expected exactly one of them, and --network only with --weights. "
            "Pass a run folder, or --weights FILE."
        )
    if run is not None:
        from forebear.tasks.runs.read import load_run

        return load_run(run)
    from forebear.weights.load import load

    if args.network is None:
        return load(args.weights)
    with _Download() as download:
        return load(args.network, weights=args.weights, progress=download)


class _Download:
    """Shows a progress bar on stderr while published weights are downloaded."""

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        self.bar = Progress(
            TextColumn("downloading"),
            BarColumn(bar_width=24),
            DownloadColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.bar.add_task("", total=None, visible=False)
        return self

    def __call__(self, done: int, total: int | None) -> None:
        self.bar.start()
        self.bar.update(self.task, completed=done, total=total, visible=True)

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
