"""forebear export: writes a network for another runtime, and checks it there."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from forebear.cli import load_model, output
from forebear.text import printable

if TYPE_CHECKING:
    from forebear.network.network import Network

SUMMARY = (
    "Writes a network for another runtime, with its class names and preprocessing inside, runs the "
    "file there, and keeps it only if it gives the same results."
)
EXAMPLE = "forebear export runs/first --to onnx --out flowers.onnx --with-preprocessing"
_FORMATS = ("onnx", "openvino", "torch-export", "litert", "coreml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "source",
        nargs="?",
        metavar="RUN",
        help="a run folder, a checkpoint in any format, or a published network such as "
        "torchvision/resnet18, whose weights are downloaded",
    )
    load_model.add_arguments(parser)
    parser.add_argument("--to", required=True, choices=_FORMATS, help="the format")
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="FILE",
        help="the file to write: .onnx, .xml (OpenVINO), .pt2, .tflite or .mlpackage",
    )
    parser.add_argument(
        "--precision",
        default="fp32",
        choices=("fp32", "fp16", "int8"),
        help="of the stored weights; fp16 halves the file; int8 takes the graph that forebear "
        "quantize kept for these weights (default: %(default)s)",
    )
    parser.add_argument(
        "--with-preprocessing",
        action="store_true",
        help="take uint8 pixels [N, height, width, channels] after resize and crop; the graph "
        "subtracts the mean and scales (default: floats [N, channels, height, width] after all of "
        "the preprocessing)",
    )
    parser.add_argument("--any-size", action="store_true", help="take images of any size")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="photographs to compare the results on (default: synthetic images)",
    )
    parser.add_argument("--unchecked", action="store_true", help="keep the file without running it")
    parser.add_argument("--replace", action="store_true", help="overwrite an existing file")


def run(args: argparse.Namespace) -> int:
    """Exports the network, and prints the size of the file and how it compares."""
    from forebear.tasks.export.export import IMAGES, export
    from forebear.tasks.export.formats import Options

    images = _photographs(args.images, IMAGES)
    int8 = _kept_int8(args) if args.precision == "int8" else None
    network = _network(args)
    done = export(
        network,
        args.to,
        args.out,
        Options(
            pixels=args.with_preprocessing,
            any_size=args.any_size,
            precision=args.precision,
            int8=int8,
        ),
        images=images,
        replace=args.replace,
        unchecked=args.unchecked,
        say=output.note,
    )
    output.result(f"{printable(args.out)}: {network.table.name}, {done.bytes / 1e6:,.1f} MB")
    if done.comparison is not None:
        output.result(done.comparison.line())
    return 0


def _photographs(folder: Path | None, count: int) -> list[Path]:
    from forebear.data.sources.folders import images_below
    from forebear.errors import DataError

    if folder is None:
        return []
    found = [Path(image) for image in images_below(folder)][:count] if folder.is_dir() else []
    if not found:
        raise DataError(
            f"{printable(folder)}: no images inside. Expected a folder with images. Check the path."
        )
    return found


def _kept_int8(args: argparse.Namespace) -> Path:
    """Returns the graph that `forebear quantize` kept for the weights.

    Raises:
        ValueError: There is none.
    """
    from forebear.engines.graph_cache import INT8, cache_of, kept_graph

    source = args.source if args.weights is None else args.weights
    folder = None if source is None else cache_of(Path(source), args.network, args.which)
    graph = None if folder is None else kept_graph(folder, INT8)
    if graph is None:
        raise ValueError(
            f"precision=int8: there is no int8 graph of {printable(source)}. Expected weights that "
            "forebear quantize was run on. Run forebear quantize RUN --data DATA first."
        )
    return graph


def _network(args: argparse.Namespace) -> Network:
    from forebear.tables.registry import networks

    if args.source in networks() and not Path(args.source).exists() and args.weights is None:
        args.network, args.weights = args.source, "published"
        return load_model.load_model(None, args)
    return load_model.load_model(None if args.source is None else Path(args.source), args)
