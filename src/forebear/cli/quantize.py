"""forebear quantize: an int8 graph of a network, judged on real images."""

from __future__ import annotations

import argparse
from pathlib import Path

from forebear.cli import load_model, output
from forebear.data.sources.kinds import listed_specs
from forebear.text import printable

SUMMARY = (
    "Makes an int8 graph of a network, says what top-1 accuracy it loses, and keeps it for "
    "--precision int8 of the other verbs."
)
EXAMPLE = "forebear quantize runs/first --data folder:photographs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "run_folder", type=Path, metavar="RUN", help="a run folder or a weights file"
    )
    parser.add_argument(
        "--data", required=True, metavar="SPEC", help=f"labelled images: {listed_specs()}"
    )
    parser.add_argument(
        "--images",
        type=int,
        default=300,
        metavar="N",
        help="training images that the ranges of activations are measured on (default: 300)",
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=0.1,
        metavar="POINTS",
        help="percentage points of top-1 accuracy that may be lost (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Quantises, and prints the accuracy before and after."""
    import importlib.util

    if importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnx") is None:
        raise ValueError(
            "onnx and onnxruntime are not installed. Expected the libraries that quantise. Run pip "
            "install 'forebear[onnx]'."
        )
    if args.images < 1 or not 0 <= args.limit <= 100:
        raise ValueError(
            f"--images {args.images}, --limit {args.limit:g}: expected 1 image or more, and 0 to "
            "100 points. Pass such numbers."
        )
    from forebear.tasks.quantize import quantize_on

    args.weights = args.network = args.which = None
    network = load_model.load_model(args.run_folder, args)
    found, path = quantize_on(
        network,
        args.run_folder,
        args.data,
        images=args.images,
        limit=args.limit,
        say=output.note,
    )
    output.result(found.line())
    output.note(f"kept in {printable(path)}; pass --precision int8")
    return 0
