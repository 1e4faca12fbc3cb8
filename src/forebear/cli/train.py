"""forebear train: a data set's name and a network's in, a run folder out."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "Trains a network on pictures and leaves a run folder: weights, metrics, curves."
EXAMPLE = "forebear train --data digits --network paper/resnet20 --out runs/first"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "--data",
        metavar="KIND:PATH",
        help="digits, folder:PATH, cifar10:PATH, npz:PATH or parquet:PATH",
    )
    parser.add_argument(
        "--network",
        metavar="NAME",
        help="a name that forebear list prints, or a .toml or .json table "
        "(default: paper/resnet20 up to 48 pixels, torchvision/resnet18 above)",
    )
    parser.add_argument("--dialect", metavar="NAME", help="how to build a table of your own")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="a new folder (default: one in runs/)"
    )
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="a checkpoint of the network to begin with"
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="leave random what the checkpoint has none of, such as the head of other classes",
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with a run that broke off, after its last whole epoch; nothing else is needed",
    )
    parser.add_argument("--replace", action="store_true", help="delete the run that is there")
    parser.add_argument("--epochs", type=int, metavar="N", help="passes (default: 15)")
    parser.add_argument("--batch", type=int, metavar="N", help="pictures a step (default: by size)")
    parser.add_argument(
        "--lr", type=float, metavar="X", help="peak learning rate (default: 0.1 for a batch of 128)"
    )
    parser.add_argument(
        "--size", type=int, metavar="PIXELS", help="side of the squares (default: the data's own)"
    )
    parser.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="swap left and right by chance (default: unless the data are digits)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--precision", default="auto", metavar="P", help="auto, fp32 or bf16 (default: %(default)s)"
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="a fixed number, for bits that repeat (default: whichever proves fastest)",
    )
    parser.add_argument(
        "--device", default="auto", metavar="D", help="auto, cpu or cuda (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Trains, and prints the result and the folder."""
    if (args.data is None) == (args.resume is None):
        raise ValueError("--data and --resume: expected one of them. Pass --data KIND:PATH.")
    from forebear.tasks.train.run import Request, resume, train

    if args.resume is not None:
        measured, folder = resume(args.resume, device=args.device, threads=args.threads)
    else:
        named = {key: value for key, value in vars(args).items() if key not in ("run", "resume")}
        measured, folder = train(Request(**named))
    print(
        f"{measured.top1:.2%} of {measured.images:,} held-out pictures right. Run folder: {folder}"
    )
    return 0
