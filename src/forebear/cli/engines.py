"""forebear engines: how fast the installed engines are for a network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from forebear.cli import load_model, output
from forebear.cli.text_table import columns

if TYPE_CHECKING:
    from forebear.engines.choose import Choice

SUMMARY = "Shows how fast the installed engines are for a network, and which one is chosen."
EXAMPLE = "forebear engines runs/first --batch 1,16"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "run_folder", nargs="?", type=Path, metavar="RUN", help="a run folder or a weights file"
    )
    load_model.add_arguments(parser)
    parser.add_argument(
        "--batch", default="1,16", metavar="N,...", help="images at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        default="fp32",
        choices=("fp32", "bf16"),
        help="to compute in (default: %(default)s)",
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="compute threads (default: all cores)"
    )
    parser.add_argument("--measure", action="store_true", help="measure again")
    parser.add_argument("--json", action="store_true", help="print one JSON object per batch size")


def run(args: argparse.Namespace) -> int:
    """Prints a table for each batch size."""
    from dataclasses import asdict

    from forebear.engines.engine import EngineRequest
    from forebear.tasks.engines import choices

    batches = _batches(args.batch)
    requests = [
        EngineRequest(precision=args.precision, batch=batch, threads=args.threads)
        for batch in batches
    ]
    found = choices(
        args.run_folder if args.weights is None else Path(args.weights),
        requests,
        load=lambda: load_model.load_model(args.run_folder, args),
        measure=args.measure,
        network=args.network,
        which=args.which,
    )
    for choice in found:
        if args.json:
            output.result_json(asdict(choice))
            continue
        output.result(f"batch {choice.batch}, {choice.precision}, measured {choice.measured}\n")
        output.result(_table(choice))
    return 0


def _table(choice: Choice) -> str:
    rows = [("engine", "ms per image", "largest difference", "same class", "")]
    for row in sorted(choice.rows, key=lambda row: (bool(row.fault), row.milliseconds)):
        chosen = "chosen" if row.engine == choice.engine and not row.fault else row.fault
        rows.append(
            (
                row.engine,
                f"{row.milliseconds:.3g}" if row.milliseconds else "-",
                f"{row.largest:.1e}",
                f"{row.same_class} of {row.images}",
                chosen,
            )
        )
    return "\n".join(columns(rows, "<>>><"))


def _batches(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= 4096 for part in parts):
        raise ValueError(
            f"--batch {text}: expected numbers from 1 to 4096, such as 1,16. Pass such numbers."
        )
    return [int(part) for part in parts]
