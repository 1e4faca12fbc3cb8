"""forebear convert: a checkpoint in one format in, the same weights in another out."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "Writes a checkpoint in another format, exactly, or says why that cannot be."
EXAMPLE = "forebear convert resnet_v1_50.ckpt resnet_v1_50.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a checkpoint of any kind")
    parser.add_argument(
        "target",
        type=Path,
        metavar="TARGET",
        help="a new .ckpt, .weights.h5, .h5, .pth, .pt, .th, .npz or .safetensors",
    )
    parser.add_argument(
        "--network",
        metavar="NAME",
        help="that the source is of, or a .toml or .json table (default: recognised)",
    )
    parser.add_argument("--dialect", metavar="D", help="of a table of your own")
    parser.add_argument(
        "--to",
        metavar="HOME",
        help="slim, keras, torchvision, timm or paper for their names, forebear for a file that "
        "describes itself (default: the source's home; forebear for .safetensors)",
    )
    parser.add_argument(
        "--rewrite",
        action="append",
        default=[],
        metavar="R",
        help="strides, norms or input: another layout of the same function; may be repeated",
    )
    parser.add_argument("--replace", action="store_true", help="overwrite an older target")


def run(args: argparse.Namespace) -> int:
    """Converts, and prints what was written and how far each rewrite moved the outputs."""
    from forebear.tasks.convert import convert

    done = convert(
        args.source,
        args.target,
        network=args.network,
        dialect=args.dialect,
        to=args.to,
        rewrites=args.rewrite,
        replace=args.replace,
    )
    for name, largest in done.differences:
        print(f"rewrite {name}: largest difference {largest:.1e} of the largest logit")
    print(f"{args.target}: {done.network}, {done.arrays} arrays")
    return 0
