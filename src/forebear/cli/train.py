"""forebear train: trains a network on a data set and writes a run folder."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from forebear.cli import output
from forebear.cli.flags import add_flags
from forebear.data.sources.kinds import listed_specs
from forebear.settings import Setting, settings
from forebear.tasks.train.request import TrainConfig

if TYPE_CHECKING:
    from forebear.tasks.label_evaluation import AnyEvaluation
    from forebear.tasks.train.api import TrainResult

SUMMARY = "Trains a network on images and writes a run folder: weights, metrics, curves."
EXAMPLE = "forebear train --data digits --network paper/resnet20 --out runs/first"


# The fields of TrainConfig whose flags stand under each title of the help
GENERAL = ("data", "network", "dialect", "out", "replace")
DATA = (
    "images", "image_column", "label_column", "multi_label", "label_columns", "label_separator",
    "group_by",
)  # fmt: skip
RECIPE = (
    "recipe", "sets", "budget", "epochs", "batch", "lr", "size", "resize", "mirror", "balance",
    "seed",
)  # fmt: skip
START = (
    "weights", "partial", "hold_out", "metric", "patience", "unknown", "sample_range", "channels",
    "bad",
)  # fmt: skip
MACHINE = (
    "precision", "device", "threads", "deterministic", "compile", "workers", "every",
    "keep_memory", "track", "tensorboard",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments, most of them read off TrainConfig."""
    known = _known()
    add_flags(parser, (known[name] for name in GENERAL))

    add_flags(parser.add_argument_group("data"), (known[name] for name in DATA))

    recipe = parser.add_argument_group("recipe")
    add_flags(recipe, (known[name] for name in RECIPE), parse={"budget": _seconds, "size": shape})
    recipe.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="train N runs with consecutive seeds and report mean and standard deviation",
    )

    recipe.add_argument(
        "--folds",
        type=int,
        metavar="N",
        help="cross-validate: train N runs, each of which validates on another part of the images, "
        "stratified by class or label and in whole groups; report mean and standard deviation, and "
        "predict each image by the network that did not see it; the same command continues it; "
        "--budget is the time of all runs together",
    )

    start = parser.add_argument_group("initialisation and validation")
    start.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="resume an interrupted run from its last checkpoint; with --epochs, train a finished "
        "run up to that many epochs",
    )
    add_flags(start, (known[name] for name in START))

    machine = parser.add_argument_group("machine")
    add_flags(machine, (known[name] for name in MACHINE))


def _known() -> dict[str, Setting]:
    """The settings of TrainConfig, with what differs on a command line."""
    known = dict(settings(TrainConfig))
    budget = f"{known['budget'].help}: 90s, 20m, 1h30m"
    return known | {
        "data": replace(known["data"], help=listed_specs()),
        "budget": replace(known["budget"], help=budget),
        "keep_memory": replace(known["keep_memory"], default=True),  # the process is the run's own
    }


def _resumed(args: argparse.Namespace, started: float) -> list[TrainResult]:
    _check_resume_flags(args)
    from forebear.tasks.train.api import resume

    return [
        resume(
            args.resume,
            epochs=args.epochs,
            device=args.device,
            threads=args.threads,
            started=started,
        )
    ]


def _request(args: argparse.Namespace, started: float) -> TrainConfig:
    """Returns what the flags ask for; refuses mistakes before torch is loaded."""
    given = {name: getattr(args, name) for name in (*GENERAL, *DATA, *RECIPE, *START, *MACHINE)}
    given["sets"] = tuple(args.sets)
    return TrainConfig(**given, started=started)


def _trained(args: argparse.Namespace, started: float) -> list[TrainResult]:
    request = _request(args, started)
    from forebear.tasks.train.api import seeds, train

    return [train(request)] if args.seeds is None else seeds(request, args.seeds)


def _cross_validated(args: argparse.Namespace, started: float) -> int:
    """Cross-validates, and prints the results of each fold and of all of them."""
    if args.seeds is not None:
        raise ValueError(
            f"--folds {args.folds} and --seeds {args.seeds}: each of them trains several runs. "
            "Expected one of them. Leave one out; --seed chooses the seed of all folds."
        )
    request = _request(args, started)
    replace(request, fold=f"1/{args.folds}")  # refuses a wrong number before torch is loaded
    from forebear.tasks.folds.job import TABLE, cross_validate
    from forebear.tasks.folds.results import TITLES
    from forebear.text import printable

    found = cross_validate(request, args.folds, say=output.note)
    for fold in found.folds:
        measures = ", ".join(f"{TITLES[name]} {value:.2%}" for name, value in fold.measures.items())
        output.result(
            f"fold {fold.number}: {measures}; {fold.images:,} validation images. Run folder: "
            f"{printable(fold.folder)}"
        )
    for one in found.summaries:
        output.result(
            f"{TITLES[one.name]}: mean {one.mean:.2%}, standard deviation {one.deviation:.2%}"
        )
    name, value = next(iter(found.predictions.measures().items()))
    low, high = (100 * end for end in found.predictions.interval())
    said = f"{value:.2%} of {found.predictions.images:,} images correct"
    if name != "top1":
        said = f"{TITLES[name]} {value:.2%} of {found.predictions.images:,} images"
    output.result(
        f"out-of-fold: {said} (95% interval: {low:.1f} to {high:.1f}%). Predictions: "
        f"{printable(found.folder / TABLE)}"
    )
    return 0


def shape(text: str) -> int | tuple[int, int]:
    """Returns the side of a square, or height and width, in pixels."""
    height, times, width = text.lower().partition("x")
    try:
        return (int(height), int(width)) if times else int(height)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected pixels, the side of a square or HEIGHTxWIDTH. Pass them as in 224 "
            "or 224x448"
        ) from None


def _seconds(text: str) -> float:
    from forebear.tasks.train.budget.progress import seconds

    try:
        return seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _check_resume_flags(args: argparse.Namespace) -> None:
    """Raises ValueError for flags that --resume would ignore.

    A resumed run uses its saved settings.
    """
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    free = ("resume", "epochs", "device", "threads")
    names = {action.dest: action.option_strings[0] for action in parser._actions}
    given = [
        names[key]
        for key, value in vars(args).items()
        if key in names and key not in free and value != parser.get_default(key)
    ]
    if given:
        raise ValueError(
            f"{', '.join(given)} with --resume: a resumed run keeps its settings. Expected only "
            "--epochs, --device and --threads. Remove the other flags, or start a new run."
        )


def run(args: argparse.Namespace) -> int:
    """Trains the network, and prints the accuracy and the run folder."""
    started = time.perf_counter()
    if (args.data is None) == (args.resume is None):
        raise ValueError(
            "--data and --resume: expected exactly one of them. Pass --data KIND:PATH, or "
            "--resume RUN."
        )
    if args.folds is not None and args.resume is None:
        return _cross_validated(args, started)
    outcomes = _resumed(args, started) if args.resume is not None else _trained(args, started)
    if os.environ.get("RANK", "0") != "0":  # only the process of rank 0 prints
        return 0
    for outcome in outcomes:
        val, test = outcome.validation, outcome.test
        tested = f" {_measured(test, 'test')}" if test else ""
        output.result(f"{_measured(val, 'validation')}{tested} Run folder: {outcome.folder}")
    if len(outcomes) > 1:
        accuracies = [_quality(outcome.test or outcome.validation) for outcome in outcomes]
        deviation = statistics.stdev(accuracies)
        output.result(f"mean {statistics.mean(accuracies):.2%}, standard deviation {deviation:.2%}")
    return 0


def _quality(measured: AnyEvaluation) -> float:
    """Returns top-1 accuracy, or mAP of multi-label images, 0 to 1."""
    from forebear.tasks.evaluate import Evaluation

    return measured.top1 if isinstance(measured, Evaluation) else measured.mean_ap


def _measured(measured: AnyEvaluation, part: str) -> str:
    from forebear.tasks.evaluate import Evaluation

    if isinstance(measured, Evaluation):
        return f"{measured.top1:.2%} of {measured.images:,} {part} images correct."
    return f"mAP {measured.mean_ap:.2%} of {measured.images:,} {part} images."
