"""forebear calibrate: fits a temperature and a threshold for unknown images on labelled images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from forebear.cli import load_model, output
from forebear.cli.evaluation_flags import add_evaluation, evaluation_options
from forebear.cli.flags import add_flags
from forebear.cli.output_path import check_drawing
from forebear.data.sources.kinds import listed_specs
from forebear.data.sources.read_options import ReadOptions
from forebear.settings import settings
from forebear.text import printable

if TYPE_CHECKING:
    from forebear.tasks.calibration import Fit

SUMMARY = "Calibrates the probabilities of a trained network, and chooses when an image is unknown."
EXAMPLE = "forebear calibrate runs/first --data digits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "run_folder",
        nargs="?",
        type=Path,
        metavar="RUN",
        help="a run folder, whose model.safetensors is replaced, or a weights file, which is kept; "
        "omit it with --weights",
    )
    load_model.add_arguments(parser)
    parser.add_argument("--data", required=True, metavar="KIND:PATH", help=listed_specs())
    add_flags(parser, settings(ReadOptions).values())
    parser.add_argument(
        "--part",
        default="val",
        metavar="PART",
        help="val, train, test or all: images that the network was not trained on "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--unknown",
        type=float,
        default=0.05,
        metavar="FRACTION",
        help="fraction of these images that may be called unknown by forebear predict --unknown "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the .safetensors file to write (default: the run's model.safetensors; for a weights "
        "file, NAME-calibrated.safetensors next to it)",
    )
    parser.add_argument("--replace", action="store_true", help="overwrite an existing --out")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the reliability")
    add_evaluation(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the temperature, the calibration errors and the rate of unknown images."""
    check_drawing(args.plot)
    _check(args)
    from forebear.tasks.calibrate import calibrate_on, held, target_of
    from forebear.tasks.runs.plots import draw_reliability
    from forebear.weights.native_format import save

    source = args.run_folder or (None if args.weights is None else Path(args.weights))
    target = target_of(source, args.out, replaces=args.replace)
    with held(target):
        network = load_model.load_model(args.run_folder, args)
        options = evaluation_options(args)
        fit = calibrate_on(network, args.data, unknown=args.unknown, **options)
        if target.run is not None:
            output.note(f"{printable(target.path)} is replaced; only its calibration changes")
        save(network, target.path)
    if args.plot is not None:
        title = f"{network.table.name} on {args.data}"
        draw_reliability({"before": fit.before, "after": fit.after}, args.plot, title)
    if args.json:
        output.result_json(_as_json(fit, target.path))
    else:
        output.result(_as_text(fit, target.path))
    return 0


def _check(args: argparse.Namespace) -> None:
    if not 0 < args.unknown < 1:
        raise ValueError(
            f"unknown={args.unknown:g}: expected a fraction between 0 and 1. Pass the fraction of "
            "known images that may be called unknown, such as 0.05."
        )
    graph = args.run_folder or Path(args.weights or "")
    if graph.suffix in (".onnx", ".xml"):
        raise ValueError(
            f"{printable(graph)}: an exported graph is not calibrated. Expected a run or weights. "
            "Calibrate those, and export them again."
        )
    if args.run_folder is not None and not args.run_folder.exists():
        raise ValueError(
            f"{printable(args.run_folder)}: no such file or folder. Expected a run folder or a "
            "weights file. Check the path."
        )


def _as_json(fit: Fit, path: Path) -> dict[str, object]:
    return {
        "file": str(path),
        **fit.calibration.as_dict(),
        "adaptive_ece_before": fit.adaptive_before,
        "adaptive_ece_after": fit.adaptive_after,
        "halves": [{"ece_before": before, "ece_after": after} for before, after in fit.halves],
        "unknown_found": fit.unknown,
    }


def _as_text(fit: Fit, path: Path) -> str:
    fitted = fit.calibration
    halves = ", ".join(f"{before:.2%} and {after:.2%}" for before, after in fit.halves)
    return "\n".join(
        (
            f"images       {fitted.images:,}",
            f"temperature  {fitted.temperature:.4f}",
            f"ECE          {fitted.ece_before:.2%} before, {fitted.ece_after:.2%} after "
            f"(the halves: {halves})",
            f"adaptive ECE {fit.adaptive_before:.2%} before, {fit.adaptive_after:.2%} after",
            f"unknown      {fitted.score} below {fitted.threshold:.4f}: "
            f"{fitted.unknown_rate:.2%} of these images asked for, {fit.unknown:.2%} found",
            "Each half of the images was measured with what was fitted on the other half.",
            f"written to {printable(path)}",
        )
    )
