"""forebear train: trains a network on a data set and writes a run folder."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

from forebear.data.sources.kinds import listed_specs

SUMMARY = "Trains a network on images and writes a run folder: weights, metrics, curves."
EXAMPLE = "forebear train --data digits --network paper/resnet20 --out runs/first"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("--data", metavar="KIND:PATH", help=listed_specs())
    parser.add_argument(
        "--network",
        metavar="NAME",
        help="a name from forebear list, or a .toml or .json table file (default: the recipe's, "
        "else that of --weights, else paper/resnet20 up to 48 pixels, torchvision/resnet18 above)",
    )
    parser.add_argument("--dialect", metavar="NAME", help="dialect (only for a table file)")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="new run folder (default: one in runs/)"
    )
    parser.add_argument("--replace", action="store_true", help="delete an existing run in --out")
    _add_recipe(parser)
    _add_start(parser)
    _add_machine(parser)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("recipe")
    group.add_argument(
        "--recipe",
        metavar="NAME",
        help="a name from forebear recipes, or a .toml file (default: chosen for the data)",
    )
    group.add_argument(
        "--set",
        action="append",
        dest="sets",
        default=[],
        metavar="FIELD=VALUE",
        help="override a field of the recipe; repeatable",
    )
    group.add_argument(
        "--budget",
        type=_seconds,
        metavar="TIME",
        help="time limit of the run including evaluation, instead of --epochs: 90s, 20m, 1h30m",
    )
    group.add_argument(
        "--epochs", type=int, metavar="N", help="epochs; the recipe's schedule is scaled to them"
    )
    group.add_argument("--batch", type=int, metavar="N", help="batch size (default: the recipe's)")
    group.add_argument(
        "--lr", type=float, metavar="X", help="peak learning rate (default: the recipe's)"
    )
    group.add_argument(
        "--size",
        type=int,
        metavar="PIXELS",
        help="input size (default: the recipe's, else that of --weights, else that of the images, "
        "up to 224)",
    )
    group.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="random horizontal flips (default: the recipe's; auto means yes, except for digits "
        "and idx data)",
    )
    group.add_argument("--seed", type=int, metavar="N", help="random seed (default: the recipe's)")
    group.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="train N runs with consecutive seeds and report mean and standard deviation",
    )


def _add_start(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("initialisation and validation")
    group.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="resume an interrupted run from its last checkpoint; needs no other arguments",
    )
    group.add_argument(
        "--weights", type=Path, metavar="FILE", help="initialise the network from a checkpoint"
    )
    group.add_argument(
        "--partial",
        action="store_true",
        help="keep the random initialisation of layers that are missing from the checkpoint, such "
        "as the classifier for other classes",
    )
    group.add_argument(
        "--hold-out",
        type=float,
        metavar="FRACTION",
        help="fraction of the training set to use for validation (model selection); the data set's "
        "own validation set then serves as test set, evaluated once at the end",
    )
    group.add_argument(
        "--bad",
        choices=("fail", "skip"),
        default="fail",
        help="images that cannot be decoded: stop with an error, or skip them (default: fail)",
    )


def _add_machine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--precision", metavar="P", help="auto, fp32 or bf16 (default: the recipe's)"
    )
    group.add_argument(
        "--device", default="auto", metavar="D", help="auto, cpu or cuda (default: %(default)s)"
    )
    group.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="compute threads (default: chosen by timing, and re-checked during training)",
    )
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="bit-identical results on the same machine, also after resuming: fixes the number of "
        "threads, and uses slower algorithms on a GPU",
    )
    group.add_argument(
        "--compile",
        choices=("auto", "off", "on", "graphs"),
        default="auto",
        help="torch.compile, or torch.compile with CUDA graphs (default: auto: the fastest by "
        "measurement, on a GPU, for runs of ten minutes or more)",
    )
    group.add_argument(
        "--workers", type=int, metavar="N", help="decoding threads (default: one per CPU core)"
    )
    group.add_argument(
        "--save-every",
        type=int,
        default=0,
        dest="every",
        metavar="STEPS",
        help="save every STEPS steps and after each epoch (default: every five minutes)",
    )
    group.add_argument(
        "--keep-memory",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="do not return freed memory to the system, which is faster (default: yes)",
    )
    group.add_argument("--tensorboard", action="store_true", help="also write TensorBoard events")


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
    free = ("resume", "device", "threads")
    names = {action.dest: action.option_strings[0] for action in parser._actions}
    given = [
        names[key]
        for key, value in vars(args).items()
        if key in names and key not in free and value != parser.get_default(key)
    ]
    if given:
        raise ValueError(
            f"{', '.join(given)} with --resume: a resumed run keeps its settings. Expected only "
            "--device and --threads. Remove the other flags, or start a new run."
        )


def run(args: argparse.Namespace) -> int:
    """Trains the network, and prints the accuracy and the run folder."""
    started = time.perf_counter()
    if (args.data is None) == (args.resume is None):
        raise ValueError(
            "--data and --resume: expected exactly one of them. Pass --data KIND:PATH, or "
            "--resume RUN."
        )
    from forebear.tasks.train.api import TrainConfig, resume, seeds, train

    if args.resume is not None:
        _check_resume_flags(args)
        outcomes = [resume(args.resume, device=args.device, threads=args.threads, started=started)]
    else:
        named = {
            key: value
            for key, value in vars(args).items()
            if key not in ("run", "resume", "sets", "seeds")
        }
        request = TrainConfig(**named, sets=tuple(args.sets), started=started)
        outcomes = [train(request)] if args.seeds is None else seeds(request, args.seeds)
    if os.environ.get("RANK", "0") != "0":  # only the process of rank 0 prints
        return 0
    for outcome in outcomes:
        val, test = outcome.held_out, outcome.test
        tested = f" {test.top1:.2%} of {test.images:,} test images correct." if test else ""
        print(
            f"{val.top1:.2%} of {val.images:,} validation images correct.{tested} "
            f"Run folder: {outcome.folder}"
        )
    if len(outcomes) > 1:
        accuracies = [(outcome.test or outcome.held_out).top1 for outcome in outcomes]
        deviation = statistics.stdev(accuracies)
        print(f"mean {statistics.mean(accuracies):.2%}, standard deviation {deviation:.2%}")
    return 0
