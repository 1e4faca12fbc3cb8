"""forebear tune: searches a few fields of a recipe in a given time."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from forebear.cli import output
from forebear.cli.flags import add_flags
from forebear.cli.text_table import columns
from forebear.cli.train import shape
from forebear.data.sources.kinds import listed_specs
from forebear.settings import settings
from forebear.tasks.train.request import TrainConfig
from forebear.tasks.tune.config import HOLD_OUT, TuneConfig
from forebear.text import printable

if TYPE_CHECKING:
    from forebear.tasks.tune.results import TuneResult

SUMMARY = "Searches a few fields of a recipe in a given time, with successive halving."
EXAMPLE = "forebear tune --data digits --epochs 9 --time 5m --out runs/tuned"

TUNE = ("out", "time", "search", "trials", "seed")
DATA = (
    "data", "images", "image_column", "label_column", "multi_label", "label_columns",
    "label_separator", "group_by", "sample_range", "channels", "bad",
)  # fmt: skip
TRAIN = (
    "network", "dialect", "recipe", "sets", "epochs", "batch", "size", "resize", "mirror",
    "balance", "weights", "partial", "hold_out", "metric",
)  # fmt: skip
MACHINE = ("precision", "device", "threads", "workers", "keep_memory")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments, read off TuneConfig and TrainConfig."""
    known = dict(settings(TrainConfig))
    known["data"] = replace(known["data"], help=listed_specs())
    known["keep_memory"] = replace(known["keep_memory"], default=True)  # as forebear train
    known["hold_out"] = replace(
        known["hold_out"],
        default=HOLD_OUT,
        help="fraction of the training set that chooses the winner; the dataset's own validation "
        "set serves as test set, evaluated once, for the winner",
    )
    tuned = settings(TuneConfig)
    add_flags(parser, (tuned[name] for name in TUNE), parse={"time": _seconds})
    add_flags(parser.add_argument_group("data"), (known[name] for name in DATA))
    train = parser.add_argument_group("training")
    add_flags(train, (known[name] for name in TRAIN), parse={"size": shape})
    add_flags(parser.add_argument_group("machine"), (known[name] for name in MACHINE))


def _seconds(text: str) -> float:
    from forebear.tasks.train.budget.progress import seconds

    try:
        return seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).replace("budget=", "time=")) from None


def run(args: argparse.Namespace) -> int:
    """Searches, and prints the trials and the winner."""
    missing = [name for name in ("data", "out", "time") if getattr(args, name) is None]
    if missing:
        raise ValueError(f"--{missing[0]} is missing. Expected --data, --out and --time. Pass it.")
    given = {name: getattr(args, name) for name in (*DATA, *TRAIN, *MACHINE)}
    given["sets"] = tuple(args.sets)
    asked = {name: getattr(args, name) for name in TUNE} | {"search": tuple(args.search)}
    config = TuneConfig(train=TrainConfig(**given), **asked)  # refuses mistakes before torch loads
    from forebear.tasks.tune.job import tune

    output.result("\n".join(_lines(tune(config, say=output.note))))
    return 0


def _lines(result: TuneResult) -> list[str]:
    from forebear.tasks.tune.results import BEST_RUN, RECIPE

    measure, best = result.measure, result.winner
    rows = [("trial", "state", measure.title, "epochs", "seconds", "values")]
    for one in result.trials:
        shown = "" if one.metric is None else measure.text(one.metric)
        times = (f"{one.epochs:.3g}", f"{one.seconds:.0f}")
        rows.append((one.folder, one.state, shown, *times, one.changes))
    assert best.metric is not None
    return [
        *columns(rows, "<<>>><"),
        "",
        f"Winner: {best.folder} ({best.changes}), {measure.title} {measure.text(best.metric)}.",
        result.caveat,
        result.tested,
        f"Its recipe: forebear train --recipe {printable(result.folder / RECIPE)}. Its run: "
        f"{printable(result.folder / BEST_RUN)}",
    ]
