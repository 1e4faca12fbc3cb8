"""forebear evaluate: measures accuracies and confusions of a trained network on a data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from forebear.cli import load_model, output
from forebear.cli.evaluate_labels import print_labels, refuse_drawings
from forebear.cli.evaluation_flags import add_evaluation, add_tta, evaluation_options, mirrors
from forebear.cli.flags import add_flags
from forebear.cli.output_path import check_drawing
from forebear.data.sources.kinds import listed_specs
from forebear.data.sources.read_options import ReadOptions
from forebear.settings import settings

if TYPE_CHECKING:
    from forebear.engines.graph_network import GraphNetwork
    from forebear.network.calibration import Calibration
    from forebear.network.network import Network
    from forebear.tasks.evaluate import Evaluation
    from forebear.tasks.metrics import Interval

SUMMARY = "Evaluates a trained network on the validation images of a data set."
EXAMPLE = "forebear evaluate runs/first --data digits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "run_folder",
        nargs="?",
        type=Path,
        metavar="RUN",
        help="a run folder or its weights file; omit it with --weights",
    )
    load_model.add_arguments(parser)
    parser.add_argument("--data", required=True, metavar="KIND:PATH", help=listed_specs())
    add_flags(parser, settings(ReadOptions).values())
    add_evaluation(parser)
    parser.add_argument(
        "--part",
        metavar="PART",
        help="val, train, test or all (default: the validation images if they came with the data "
        "or the network was trained on the others, else all)",
    )
    add_tta(parser)
    parser.add_argument("--draw", type=Path, metavar="FILE.png", help="draw the confusion matrix")
    parser.add_argument(
        "--draw-calibration", type=Path, metavar="FILE.png", help="draw the reliability diagram"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the accuracies, one line per class, and the confusion matrix for up to 20 classes."""
    check_drawing(args.draw)
    check_drawing(args.draw_calibration)
    from forebear.tasks.calibration import reliability
    from forebear.tasks.evaluate import evaluate_on
    from forebear.tasks.runs.plots import draw_confusion, draw_reliability

    network = load_model.load_network_or_graph(args.run_folder, args)
    if network.multi_label:
        return _labels(network, args)
    options = evaluation_options(args)
    measured = evaluate_on(network, args.data, mirrored=mirrors(args), **options)
    if args.draw is not None:
        draw_confusion(measured, args.draw, f"{network.table.name} on {args.data}")
    fitted = network.card.calibration
    bins = reliability(measured.confidences, measured.guesses == measured.labels)
    if args.draw_calibration is not None:
        name = "not calibrated" if fitted is None else "calibrated"
        title = f"{network.table.name} on {args.data}"
        draw_reliability({name: bins}, args.draw_calibration, title)
    if args.json:
        calibrated = {"ece": bins.ece, "calibrated": fitted is not None}
        output.result_json(_as_json(measured) | calibrated)
    else:
        output.result(_as_text(measured, _ece_line(bins.ece, fitted)))
    return 0


def _labels(network: Network | GraphNetwork, args: argparse.Namespace) -> int:
    from forebear.tasks.label_evaluation import evaluate_labels_on

    refuse_drawings(args)
    options = evaluation_options(args)
    measured = evaluate_labels_on(network, args.data, mirrored=mirrors(args), **options)
    print_labels(measured, as_json=args.json)
    return 0


def _as_json(measured: Evaluation) -> dict[str, object]:
    return {
        "images": measured.images,
        "top1": measured.top1,
        "top5": measured.top5,
        "balanced": measured.balanced,
        "macro_f1": measured.macro_f1,
        "intervals": measured.intervals()._asdict(),
        "loss": measured.loss,
        "classes": [
            {
                "class": row.name,
                "images": row.images,
                "recall": row.recall,
                "recall_interval": row.recall_interval,
                "precision": row.precision,
            }
            for row in measured.per_class()
        ],
        "confusion": measured.confusion.tolist(),
    }


def _ece_line(ece: float, fitted: Calibration | None) -> str:
    """Returns the expected calibration error, and whether the probabilities are calibrated."""
    how = (
        "not calibrated" if fitted is None else f"calibrated, temperature {fitted.temperature:.4g}"
    )
    return f"ECE       {ece:.2%} ({how})"


def _as_text(measured: Evaluation, ece: str) -> str:
    classes, confusion, intervals = measured.classes, measured.confusion, measured.intervals()
    lines = [f"images    {measured.images:,}", _line("top-1", measured.top1, intervals.top1)]
    if len(classes) > 5:
        lines.append(f"top-5     {measured.top5:.2%}")
    lines += [
        _line("balanced", measured.balanced, intervals.balanced) + ", mean recall of the classes",
        _line("F1", measured.macro_f1, intervals.macro_f1) + ", mean of the classes",
        f"loss      {measured.loss:.4f}",
        ece,
    ]
    width = max(5, *(len(name) for name in classes))
    lines += ["", f"{'class':<{width}}  images  recall     95% interval  precision"]
    for row in measured.per_class():
        if row.images:
            low, high = (100 * end for end in row.recall_interval)
            lines.append(
                f"{row.name:<{width}}  {row.images:>6,}  {row.recall:>6.1%}  "
                f"{f'{low:.1f} to {high:.1f}%':>15}  {row.precision:>9.1%}"
            )
    if len(classes) <= 20:
        cell = max(4, len(str(confusion.max())) + 1)
        head = "".join(f"{number:>{cell}}" for number in range(len(classes)))
        lines += ["", "confusion matrix: true classes in rows, predictions in columns"]
        lines.append(f"{'':<{width + 4}}{head}")
        for number, (name, row) in enumerate(zip(classes, confusion, strict=True)):
            cells = "".join(f"{count:>{cell}}" for count in row)
            lines.append(f"{number:>3} {name:<{width}}{cells}")
    return "\n".join(lines)


def _line(name: str, value: float, interval: Interval) -> str:
    low, high = (100 * end for end in interval)
    return f"{name:<9} {value:.2%} (95% interval: {low:.1f} to {high:.1f}%)"
