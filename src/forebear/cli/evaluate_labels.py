"""What forebear evaluate prints of a multi-label network."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from forebear.cli import output
from forebear.cli.text_table import columns

if TYPE_CHECKING:
    from forebear.tasks.label_evaluation import LabelEvaluation
    from forebear.tasks.metrics import Interval


def refuse_drawings(args: argparse.Namespace) -> None:
    """Refuses the drawings that are of one class an image.

    Raises:
        ValueError: One of them is asked for.
    """
    for flag, path in (("--draw", args.draw), ("--draw-calibration", args.draw_calibration)):
        if path is not None:
            raise ValueError(
                f"{flag}: the network is multi-label, and the drawing is of one class an image. "
                "Expected no drawing. Leave it out; the output has the results of each label."
            )


def print_labels(measured: LabelEvaluation, *, as_json: bool) -> None:
    """Prints the measures, and one line per label."""
    if as_json:
        output.result_json(_as_json(measured))
    else:
        output.result(_as_text(measured))


def _as_json(measured: LabelEvaluation) -> dict[str, object]:
    return {
        "images": measured.images,
        "mAP": measured.mean_ap,
        "micro_f1": measured.micro_f1,
        "macro_f1": measured.macro_f1,
        "exact_match": measured.exact_match,
        "intervals": measured.intervals()._asdict(),
        "loss": measured.loss,
        "labels": [
            {
                "label": row.name,
                "images": row.images,
                "predicted": row.predicted,
                "average_precision": None
                if math.isnan(row.average_precision)
                else row.average_precision,
                "f1": row.f1,
                "precision": row.precision,
                "recall": row.recall,
                "threshold": row.threshold,
            }
            for row in measured.per_label()
        ],
    }


def _as_text(measured: LabelEvaluation) -> str:
    intervals = measured.intervals()
    lines = [
        f"images       {measured.images:,}",
        f"{_line('mAP', measured.mean_ap, intervals.mAP)}, mean average precision of the labels",
        f"{_line('micro-F1', measured.micro_f1, intervals.micro_f1)}, of all labels together",
        f"{_line('macro-F1', measured.macro_f1, intervals.macro_f1)}, mean of the labels",
        f"{_line('exact match', measured.exact_match, intervals.exact_match)}, all labels right",
        f"loss         {measured.loss:.4f}, sum of the labels",
        "",
    ]
    head = ("label", "images", "average precision", "F1", "precision", "recall", "threshold")
    rows = [head]
    for row in measured.per_label():
        there = row.images > 0
        rows.append(
            (
                row.name,
                f"{row.images:,}",
                f"{row.average_precision:.1%}" if there else "-",
                f"{row.f1:.1%}" if there else "-",
                f"{row.precision:.1%}" if row.predicted else "-",
                f"{row.recall:.1%}" if there else "-",
                f"{row.threshold:.3f}",
            )
        )
    return "\n".join([*lines, *columns(rows, "<>>>>>>")])


def _line(name: str, value: float, interval: Interval) -> str:
    low, high = (100 * end for end in interval)
    return f"{name:<12} {value:.2%} (95% interval: {low:.1f} to {high:.1f}%)"
