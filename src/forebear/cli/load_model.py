"""The model that a verb is to use: a run's folder, a checkpoint, or a name with its weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Self

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
        from forebear.tasks.runs.folder import load_run

        return load_run(run)
    from forebear.weights.load import load

    if args.network is None:
        return load(args.weights)
    with _Download() as download:
        return load(args.network, weights=args.weights, progress=download)


class _Download:
    """A line on stderr while published weights are fetched."""

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        self.bar = Progress(
            TextColumn("fetching"),
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
