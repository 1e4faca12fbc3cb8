"""forebear train: a data set's name and a network's in, a run folder out."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

from forebear.data.sources.kinds import listed_specs

SUMMARY = "Trains a network on pictures and leaves a run folder: weights, metrics, curves."
EXAMPLE = "forebear train --data digits --network paper/resnet20 --out runs/first"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("--data", metavar="KIND:PATH", help=listed_specs())
    parser.add_argument(
        "--network",
        metavar="NAME",
        help="a name that forebear list prints, or a .toml or .json table (default: the recipe's, "
        "else that of --weights, else paper/resnet20 up to 48 pixels, torchvision/resnet18 above)",
    )
    parser.add_argument("--dialect", metavar="NAME", help="how to build a table of your own")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="a new folder (default: one in runs/)"
    )
    parser.add_argument("--replace", action="store_true", help="delete the run that is there")
    _add_recipe(parser)
    _add_start(parser)
    _add_machine(parser)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the recipe")
    group.add_argument(
        "--recipe",
        metavar="NAME",
        help="a name that forebear recipes prints, or a .toml (default: one that suits the data)",
    )
    group.add_argument(
        "--set",
        action="append",
        dest="sets",
        default=[],
        metavar="FIELD=VALUE",
        help="a field in place of the recipe's; can be given again",
    )
    group.add_argument(
        "--budget",
        type=_seconds,
        metavar="TIME",
        help="90s, 20m, 1h30m: the run ends then, evaluation included, in place of --epochs",
    )
    group.add_argument(
        "--epochs", type=int, metavar="N", help="passes; the recipe's schedule is stretched along"
    )
    group.add_argument("--batch", type=int, metavar="N", help="pictures a step")
    group.add_argument("--lr", type=float, metavar="X", help="peak learning rate")
    group.add_argument(
        "--size",
        type=int,
        metavar="PIXELS",
        help="side of the squares (default: the recipe's, else that of --weights, else the "
        "pictures', up to 224)",
    )
    group.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="swap left and right by chance (default: unless the data are digits)",
    )
    group.add_argument("--seed", type=int, metavar="N", help="(default: the recipe's)")
    group.add_argument(
        "--seeds", type=int, metavar="N", help="so many runs, from this seed on: mean and spread"
    )


def _add_start(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what it begins with, and what it is chosen by")
    group.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with a run that broke off, after its last saved step; nothing else is needed",
    )
    group.add_argument(
        "--weights", type=Path, metavar="FILE", help="a checkpoint of the network to begin with"
    )
    group.add_argument(
        "--partial",
        action="store_true",
        help="leave random what the checkpoint has none of, such as the head of other classes",
    )
    group.add_argument(
        "--hold-out",
        type=float,
        metavar="SHARE",
        help="of the training pictures, to choose the weights by; the data's own held-out part is "
        "then tested on once, at the end",
    )
    group.add_argument(
        "--bad",
        choices=("fail", "skip"),
        default="fail",
        help="pictures that cannot be decoded: end the run, or skip and count (default: fail)",
    )


def _add_machine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the machine")
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
        help="that compute (default: as many as prove fastest, meanwhile too)",
    )
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="the same bits again on the same machine, after a break too: a fixed number of "
        "threads, and on a GPU slower algorithms",
    )
    group.add_argument(
        "--compile",
        choices=("auto", "off", "on", "graphs"),
        default="auto",
        help="torch.compile, or with CUDA graphs too (default: on a GPU, whichever is measured to "
        "be fastest, for runs of ten minutes or more)",
    )
    group.add_argument(
        "--workers", type=int, metavar="N", help="threads that decode (default: all processors)"
    )
    group.add_argument(
        "--save-every",
        type=int,
        default=0,
        dest="every",
        metavar="STEPS",
        help="save within an epoch too (default: every five minutes)",
    )
    group.add_argument(
        "--keep-memory",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="never give freed memory back, which is faster (default: yes)",
    )
    group.add_argument(
        "--tensorboard", action="store_true", help="write events for TensorBoard too"
    )


def _seconds(text: str) -> float:
    from forebear.tasks.train.budget.progress import seconds

    try:
        return seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _refuse_beside_resume(args: argparse.Namespace) -> None:
    """A run goes on as it began: a flag that would be ignored is refused."""
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
            f"{', '.join(given)} beside --resume: a run goes on by its own settings. Expected no "
            "more than --device and --threads. Leave the rest out, or begin another run."
        )


def run(args: argparse.Namespace) -> int:
    """Trains, and prints the result and the folder."""
    started = time.perf_counter()
    if (args.data is None) == (args.resume is None):
        raise ValueError("--data and --resume: expected one of them. Pass --data KIND:PATH.")
    from forebear.tasks.train.api import TrainConfig, resume, seeds, train

    if args.resume is not None:
        _refuse_beside_resume(args)
        outcomes = [resume(args.resume, device=args.device, threads=args.threads, started=started)]
    else:
        named = {
            key: value
            for key, value in vars(args).items()
            if key not in ("run", "resume", "sets", "seeds")
        }
        request = TrainConfig(**named, sets=tuple(args.sets), started=started)
        outcomes = [train(request)] if args.seeds is None else seeds(request, args.seeds)
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks
        return 0
    for outcome in outcomes:
        held_out, test = outcome.held_out, outcome.test
        tested = f" {test.top1:.2%} of {test.images:,} test pictures right." if test else ""
        print(
            f"{held_out.top1:.2%} of {held_out.images:,} held-out pictures right.{tested} "
            f"Run folder: {outcome.folder}"
        )
    if len(outcomes) > 1:
        shares = [(outcome.test or outcome.held_out).top1 for outcome in outcomes]
        spread = statistics.stdev(shares)
        print(f"{statistics.mean(shares):.2%} on average, standard deviation {spread:.2%}")
    return 0
