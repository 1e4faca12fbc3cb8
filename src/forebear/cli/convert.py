"""forebear convert: writes the weights of a checkpoint in another format."""

from __future__ import annotations

import argparse
from pathlib import Path

from forebear.cli import output
from forebear.cli.load_model import add_which
from forebear.text import printable

SUMMARY = "Converts a checkpoint to another format without loss, or reports why that is impossible."
EXAMPLE = "forebear convert resnet_v1_50.ckpt resnet_v1_50.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "source", type=Path, metavar="SOURCE", help="a checkpoint in any supported format"
    )
    parser.add_argument(
        "target",
        type=Path,
        metavar="TARGET",
        help="the file to write: .ckpt, .weights.h5, .h5, .pth, .pt, .th, .npz or .safetensors; a "
        "folder with --to transformers or kerashub, and with --to timm if it has no extension",
    )
    parser.add_argument(
        "--network",
        metavar="NAME",
        help="network of the source, or a .toml or .json table file (default: detected)",
    )
    parser.add_argument("--dialect", metavar="D", help="dialect (only for a table file)")
    parser.add_argument(
        "--to",
        metavar="LIBRARY",
        help="library whose array names to use: slim, keras, torchvision, timm, paper, "
        "transformers, kerashub, or forebear for a self-describing file (default: the source's "
        "library; forebear for .safetensors)",
    )
    parser.add_argument(
        "--rewrite",
        action="append",
        default=[],
        metavar="R",
        help="equivalent rewrite to apply: strides, norms or input; repeatable",
    )
    add_which(parser)
    parser.add_argument("--replace", action="store_true", help="overwrite an existing target")


def run(args: argparse.Namespace) -> int:
    """Converts the file, and prints what was written and the numerical error of each rewrite."""
    from forebear.tasks.convert import convert

    done = convert(
        args.source,
        args.target,
        network=args.network,
        dialect=args.dialect,
        to=args.to,
        rewrites=args.rewrite,
        which=args.which,
        replace=args.replace,
    )
    for name, largest in done.differences:
        output.result(f"rewrite {name}: largest error {largest:.1e} relative to the largest logit")
    output.result(f"{printable(args.target)}: {done.network}, {done.arrays} arrays")
    return 0
