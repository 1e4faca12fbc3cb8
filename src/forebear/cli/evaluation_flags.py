"""The arguments that several verbs have for evaluating labelled or unlabelled images."""

from __future__ import annotations

import argparse
from typing import Any, get_args

from forebear.cli import output
from forebear.data.choices import Bad
from forebear.data.sources.read_options import ReadOptions
from forebear.settings import settings


def add_evaluation(parser: argparse.ArgumentParser) -> None:
    """Adds --batch, --precision, --device and --bad, as `evaluate_on` takes them."""
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
        "--bad",
        default="fail",
        choices=get_args(Bad),
        help="images that cannot be decoded: stop with an error, or skip them "
        "(default: %(default)s)",
    )


def evaluation_options(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `evaluate_on` that the flags of `evaluate` and `calibrate` give."""
    return {
        "reading": ReadOptions(**{name: getattr(args, name) for name in settings(ReadOptions)}),
        "part": args.part,
        "batch": args.batch,
        "precision": args.precision,
        "device": args.device,
        "bad": args.bad,
        "say": output.note,
    }


def add_tta(parser: argparse.ArgumentParser) -> None:
    """Adds --tta."""
    parser.add_argument(
        "--tta",
        default="none",
        choices=("none", "mirror"),
        help="test-time augmentation: mirror averages the logits of each image and its mirror "
        "image, which takes twice the time (default: %(default)s)",
    )


def mirrors(args: argparse.Namespace) -> bool:
    """Whether mirror images are answered too; then a note says what this costs."""
    if args.tta == "none":
        return False
    output.note("each image and its mirror image are answered, which takes twice the time")
    return True
