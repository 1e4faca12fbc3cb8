"""forebear evaluate: measures accuracies and confusions of a trained network on a data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from forebear.cli import load_model, output
from forebear.cli.output_path import check_drawing
from forebear.data.choices import Bad
from forebear.data.sources.kinds import listed_specs

if TYPE_CHECKING:
    from forebear.network.calibration import Calibration
    from forebear.tasks.evaluate import Evaluation

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
    parser.add_argument(
        "--batch", type=int, default=64, metavar="N", help="batch size (default: %(default)s)"
    )
    parser.add_argument(
        "--precision", default="fp32", metavar="P", help="auto, fp32 or bf16 (default: %(default)s)"
    )
    parser.add_argument(
        "--device", default="auto", metavar="D", help="auto, cpu or cuda (default: %(default)s)"
    )
    parser.add_argument(
        "--part",
        metavar="PART",
        help="val, train, test or all (default: the validation images if they came with the data "
        "or the network was trained on the others, else all)",
    )
    parser.add_argument(
        "--bad",
        default="fail",
        choices=get_args(Bad),
        help="images that cannot be decoded: stop with an error, or skip them "
        "(default: %(default)s)",
    )
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
    measured = evaluate_on(
        network,
        args.data,
        part=args.part,
        batch=args.batch,
        precision=args.precision,
        device=args.device,
        bad=args.bad,
        say=output.note,
    )
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


def _as_json(measured: Evaluation) -> dict[str, object]:
    return {
        "images": measured.images,
        "top1": measured.top1,
        "top5": measured.top5,
        "macro_f1": measured.macro_f1,
        "loss": measured.loss,
        "classes": [
            {"class": name, "images": count, "recall": recall, "precision": precision}
            for name, count, recall, precision in measured.per_class()
        ],
        "confusion": measured.confusion.tolist(),
    }


def _ece_line(ece: float, fitted: Calibration | None) -> str:
    """Returns the expected calibration error, and whether the probabilities are calibrated."""
    how = (
        "not calibrated" if fitted is None else f"calibrated, temperature {fitted.temperature:.4g}"
    )
    return f"ECE    {ece:.2%} ({how})"


def _as_text(measured: Evaluation, ece: str) -> str:
    classes, confusion = measured.classes, measured.confusion
    lines = [f"images {measured.images:,}", f"top-1  {measured.top1:.2%}"]
    if len(classes) > 5:
        lines.append(f"top-5  {measured.top5:.2%}")
    lines.append(f"F1     {measured.macro_f1:.2%} (mean over classes)")
    lines.append(f"loss   {measured.loss:.4f}")
    lines.append(ece)
    width = max(5, *(len(name) for name in classes))
    lines += ["", f"{'class':<{width}}  images  recall  precision"]
    for name, count, recall, precision in measured.per_class():
        if count:
            lines.append(f"{name:<{width}}  {count:>6,}  {recall:>6.1%}  {precision:>9.1%}")
    if len(classes) <= 20:
        cell = max(4, len(str(confusion.max())) + 1)
        head = "".join(f"{number:>{cell}}" for number in range(len(classes)))
        lines += ["", "confusion matrix: true classes in rows, predictions in columns"]
        lines.append(f"{'':<{width + 4}}{head}")
        for number, (name, row) in enumerate(zip(classes, confusion, strict=True)):
            cells = "".join(f"{count:>{cell}}" for count in row)
            lines.append(f"{number:>3} {name:<{width}}{cells}")
    return "\n".join(lines)
