"""forebear tune: searches a few fields of a recipe in a given time."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from forebear.cli import output
from forebear.cli.flags import add_flags
from forebear.cli.text_table import columns
from forebear.settings import settings
from forebear.tasks.runs.choosing import MEASURES
from forebear.tasks.train.request import TrainConfig
from forebear.tasks.tune.config import TuneConfig

if TYPE_CHECKING:
    from forebear.tasks.tune.job import Trial, TuneResult

SUMMARY = "Searches a few fields of a recipe in a given time, with successive halving."
EXAMPLE = "forebear tune --data digits --epochs 9 --time 5m --out runs/tuned"

TUNE = ("out", "time", "search", "trials", "seed")
TRAIN = (
    "data", "images", "image_column", "label_column", "group_by", "network", "dialect", "recipe",
    "sets", "epochs", "batch", "size", "mirror", "balance", "weights", "partial", "hold_out",
    "metric", "bad", "precision", "device", "threads", "workers",
)  # fmt: skip
HOLD_OUT = 0.2  # fraction of the training images that chooses


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments, read off TuneConfig and TrainConfig."""
    known = settings(TrainConfig)
    tuned = settings(TuneConfig)
    add_flags(parser, (tuned[name] for name in TUNE), parse={"time": _seconds})
    held = replace(
        known["hold_out"],
        default=HOLD_OUT,
        help="fraction of the training set whose images choose the winner; the data's own "
        "validation set is the test set, evaluated once for the winner",
    )
    train = parser.add_argument_group("training")
    add_flags(train, (held if name == "hold_out" else known[name] for name in TRAIN))


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
    given = {name: getattr(args, name) for name in TRAIN}
    given["sets"] = tuple(args.sets)
    config = TuneConfig(
        train=TrainConfig(**given),
        out=_path(args.out),
        time=args.time,
        search=tuple(args.search),
        trials=args.trials,
        seed=args.seed,
    )
    from forebear.tasks.tune.job import tune

    result = tune(config, output.note)
    output.result("\n".join(_lines(result)))
    return 0


def _path(text: object) -> Path:
    from forebear.files import expanded

    return expanded(str(text))


def _lines(result: TuneResult) -> list[str]:
    measure = next(one for name, one in MEASURES.items() if name == result.metric)
    rows = [("trial", "state", measure.title, "epochs", "seconds", "values")]
    for trial in result.trials:
        shown = "" if trial.metric is None else measure.text(trial.metric)
        rows.append(
            (trial.folder, trial.state, shown, f"{trial.epochs:g}", f"{trial.seconds:.0f}",
             _values(trial))
        )  # fmt: skip
    best = result.winner
    assert best.metric is not None
    lines = [
        *columns(rows, "<<>>><"),
        "",
        f"winner: {best.folder} ({_values(best)}), {measure.title} {measure.text(best.metric)} of "
        f"the validation images. It was chosen among {len(result.trials)} trials by these "
        "images, so this number is optimistic.",
    ]
    if result.test_accuracy is not None:
        lines.append(
            f"test set, which chose nothing: {result.test_accuracy:.2%} of "
            f"{result.test_images:,} images correct."
        )
    lines.append(f"To train with its recipe: --recipe {result.folder / 'recipe.toml'}")
    return lines


def _values(trial: Trial) -> str:
    text = " ".join(f"{name}={value}" for name, value in trial.values.items())
    return text or "the unchanged recipe"
