"""forebear compare: prints a table of several runs, and plots their accuracies."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.cli import output
from forebear.cli.output_path import check_drawing
from forebear.cli.text_table import columns

if TYPE_CHECKING:
    from forebear.tasks.runs.compare import Result, Spread

SUMMARY = "Compares runs: differences between their recipes, accuracies, speed and duration."
EXAMPLE = "forebear compare runs/first runs/second --out compare.png"
FIELDS = 6  # recipe fields in a row of the table; --json prints all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="a run folder, finished or not"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE.png", help="plot accuracy over minutes and over epochs"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints one row per run, and mean and standard deviation over seeds, if there are several."""
    check_drawing(args.out)
    from forebear.tasks.runs.compare import compare, draw, spreads

    results = compare(args.runs)
    if args.out is not None:
        draw(results, args.out)
    groups = spreads(results)
    if args.json:
        output.result_json(_as_json(results, groups))
    else:
        output.result(_as_text(results, groups))
    return 0


def _as_text(results: Sequence[Result], groups: Sequence[Spread]) -> str:
    from forebear.tasks.runs.formatting import magnitude, percent, whole
    from forebear.text import elided

    apart = len({result.data for result in results}) > 1
    rows = [_HEAD]
    for result in results:
        run = result.run
        rows.append(
            (
                elided(run.path, 40),
                elided(run.network, 40),
                "-" if run.parameters is None else magnitude(run.parameters),
                elided(run.data, 30) + (f" [{result.data + 1}]" if apart else ""),
                _recipe(result.differs),
                _epochs(result),
                whole(result.images_per_second),
                "-" if math.isnan(result.minutes) else f"{result.minutes:.1f}",
                percent(result.best),
                percent(result.last),
                "-" if run.tested is None else percent(run.tested[0]),
            )
        )
    lines = columns(rows, "<<><<>>>>>>")
    if apart:
        lines += [
            "",
            "[1], [2]: different images or splits. Compare accuracies only between equal numbers.",
        ]
    for group in groups:
        names = ", ".join(elided(one.run.path, 40) for one in group.runs)
        lines += ["", f"{len(group.runs)} seeds with equal settings: {names}"]
        for what, (mean, deviation) in (("last", group.last), ("best", group.best)):
            lines.append(f"{what}  {mean:.2%} ± {100 * deviation:.2f}")
    return "\n".join(lines)


_HEAD = (
    "run", "network", "parameters", "data", "recipe", "epochs", "images/s", "minutes", "best",
    "last", "test",
)  # fmt: skip


def _recipe(differs: dict[str, Any]) -> str:
    """Returns the recipe fields that differ between runs, "lr 0.1, batch 64", or "same"."""
    fields = [f"{name} {_value_text(value)}" for name, value in differs.items()]
    more = [f"{len(fields) - FIELDS} more"] if len(fields) > FIELDS else []
    return ", ".join([*fields[:FIELDS], *more]) or "same"


def _value_text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "/".join(map(_value_text, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _epochs(result: Result) -> str:
    from forebear.tasks.runs.formatting import passes

    run = result.run
    done = passes(run.last("epoch"))
    if run.finished:
        return done
    return f"{done} unfinished" if run.planned is None else f"{done} of {passes(run.planned)}"


def _as_json(results: Sequence[Result], groups: Sequence[Spread]) -> dict[str, object]:
    return {
        "comparable": len({result.data for result in results}) == 1,
        "runs": [
            {
                "run": str(result.run.path),
                "network": result.run.network,
                "parameters": result.run.parameters,
                "data": result.run.data,
                "fingerprint": result.run.part("data").get("fingerprint"),
                "recipe": result.differs,
                "seed": result.seed,
                "finished": result.run.finished,
                "epochs": _number(result.run.last("epoch")),
                "images_per_second": _number(result.images_per_second),
                "minutes": _number(result.minutes),
                "best": _number(result.best),
                "last": _number(result.last),
                "balanced": _number(result.run.last("val_balanced")),
                "macro_f1": _number(result.run.last("val_macro_f1")),
                "test": None if result.run.tested is None else result.run.tested[0],
            }
            for result in results
        ],
        "seeds": [
            {
                "runs": [str(one.run.path) for one in group.runs],
                **{
                    name: {"mean": mean, "deviation": deviation}
                    for name, (mean, deviation) in (("last", group.last), ("best", group.best))
                },
            }
            for group in groups
        ],
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
