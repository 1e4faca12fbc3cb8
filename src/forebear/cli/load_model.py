"""Loads the model for a verb: from a run folder, a checkpoint, or published weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Self

from forebear.cli import output

if TYPE_CHECKING:
    from forebear.engines.graph_network import GraphNetwork
    from forebear.network.network import Network


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that replace a run folder."""
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="instead of RUN: a checkpoint in any format, hf:OWNER/NAME of the Hugging Face Hub, "
        'or "published" with --network',
    )
    parser.add_argument(
        "--network", metavar="NAME", help="network of the weights (default: detected)"
    )
    add_which(parser)


def add_which(parser: argparse.ArgumentParser) -> None:
    """Adds --which."""
    parser.add_argument(
        "--which",
        metavar="SET",
        help="weights to take if the file has several sets: raw, ema, a name in the file such as "
        "teacher, or body for no classifier (default: raw)",
    )


def load_model(run: Path | None, args: argparse.Namespace, *, notes: bool = True) -> Network:
    """Returns the network in evaluation mode.

    Args:
        run: A run folder or a file; None: that of --weights.
        args: With those of `add_arguments`.
        notes: Whether to print what was noticed when another program's file was read.

    Raises:
        ValueError: Both or neither of `run` and --weights are given.
        ForebearError: The run or the checkpoint cannot be used.
    """
    if (run is None) == (args.weights is None) or (run is not None and args.network):
        raise ValueError(
            "RUN and --weights: expected exactly one of them, and --network only with --weights. "
            "Pass a run folder, or --weights FILE."
        )
    from forebear.network.model_card import NOTES
    from forebear.weights.hub_source import located
    from forebear.weights.load import load, native_file

    path = located(Path(args.weights) if run is None else run)
    if run is not None and not path.is_file() and not _is_checkpoint(path):
        from forebear.tasks.runs.read import load_run

        return load_run(path)
    if args.network is None:
        network = load(path, which=args.which)
    else:
        with _Download() as download:
            network = load(args.network, weights=args.weights, which=args.which, progress=download)
    said = network.card.provenance.get(NOTES)
    if notes and said and not (path.exists() and native_file(path)):
        output.note(f"{path}: {said}")
    return network


def load_network_or_graph(run: Path | None, args: argparse.Namespace) -> Network | GraphNetwork:
    """Returns the network in evaluation mode, or an exported graph that stands in for it.

    Raises:
        ValueError: Both or neither of `run` and --weights are given, or a library is missing.
        ForebearError: The run, the checkpoint or the graph cannot be used.
    """
    path = run or Path(args.weights or "")
    if path.suffix in (".onnx", ".xml") and args.network is None and args.which is None:
        from forebear.engines.graph_card import is_foreign
        from forebear.engines.graph_network import GraphNetwork
        from forebear.engines.make import open_graph

        if not is_foreign(path):  # graphs of other programs are checkpoints
            return GraphNetwork(*open_graph(path))
    return load_model(run, args)


def _is_checkpoint(path: Path) -> bool:
    """Whether a path that is no file is that of a checkpoint, and of no run."""
    from forebear.weights.load import native_file
    from forebear.weights.readers.hub import is_hub_folder
    from forebear.weights.readers.tensorflow.open import is_tensorflow
    from forebear.weights.readers.tensorflow.saved_model import is_saved_model

    if not path.is_dir():
        return is_tensorflow(path)
    return is_saved_model(path) or (is_hub_folder(path) and native_file(path) is None)


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
