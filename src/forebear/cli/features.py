"""forebear features: writes the tensors of an end point, one row per image, to a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from forebear.cli import load_model, output
from forebear.cli.image_bar import Bar
from forebear.cli.image_paths import images_of
from forebear.data.choices import Bad
from forebear.text import printable

SUMMARY = "Writes the features of images at any end point of a network to a file."
EXAMPLE = "forebear features runs/first photographs --end-point block4 --out features.npy"
_BATCH = 16  # images at a time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "words",
        nargs="+",
        metavar="RUN IMAGE",
        help="a run folder or a weights file; then images, folders with images, patterns such as "
        "'photos/*.jpg', or - for paths from stdin, one per line; with --weights only the latter",
    )
    load_model.add_arguments(parser)
    parser.add_argument(
        "--end-point",
        metavar="NAME",
        help="where the features are taken, such as block4, pool or block3.unit_2.conv2; "
        "forebear describe lists the layers (default: what comes before the logits)",
    )
    parser.add_argument(
        "--maps",
        action="store_true",
        help="keep maps [C, h, w] (default: they are averaged over h and w)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        required=True,
        help="write to this .npy or .parquet file; a job that was stopped continues where it was",
    )
    parser.add_argument(
        "--replace", action="store_true", help="overwrite an existing --out, and start again"
    )
    parser.add_argument(
        "--recursive",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether a folder stands for the images in its folders too (default: yes)",
    )
    parser.add_argument(
        "--shard", metavar="I/N", help="compute only the I-th of N parts of the images"
    )
    parser.add_argument(
        "--batch", type=int, default=_BATCH, metavar="N", help="images at a time (default: 16)"
    )
    parser.add_argument(
        "--bad",
        choices=get_args(Bad),
        help="images that cannot be read: stop at the first, or write rows of NaN with exit code 0 "
        "(default: write rows of NaN, and exit with code 2 at the end)",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the features, and names the images that cannot be read on stderr.

    Returns:
        0, or 2 if an image could not be read.
    """
    from forebear.errors import DataError
    from forebear.tasks.feature_file import ENDINGS, opened_features
    from forebear.tasks.features import Extractor, features
    from forebear.tasks.job_files import check_ending

    if args.batch < 1:
        raise ValueError(f"batch={args.batch}: expected 1 or more. Pass a number of images.")
    check_ending(args.out, ENDINGS)
    run, images = _run_and_images(args)
    extractor = Extractor(load_model.load_model(run, args), args.end_point, maps=args.maps)
    paths = [str(image) for image in images]
    job = extractor.job(paths)
    with opened_features(args.out, job, extractor.shape, paths, replace=args.replace) as file:
        if file.done:
            output.note(f"{printable(args.out)}: {file.done:,} of {len(images):,} images finished")
        with Bar(len(images), file.done) as bar:
            for some in features(extractor, images[file.done :], batch=args.batch):
                if some.errors and args.bad == "fail":
                    raise DataError(some.errors[0])
                for error in some.errors:
                    output.note(error)
                file.add(some.values, len(some.errors))
                bar.advance(len(some.values))
        failed = file.failed
    shape = ", ".join(map(str, (len(images), *extractor.shape)))
    output.note(f"{printable(args.out)}: [{shape}] at {extractor.end_point}{bar.speed()}")
    if failed:
        output.note(f"{failed:,} of {len(images):,} images could not be read")
    return 2 if failed and args.bad is None else 0


def _run_and_images(args: argparse.Namespace) -> tuple[Path | None, list[Path]]:
    from forebear.engines.graph_card import is_exported
    from forebear.errors import DataError
    from forebear.tasks.predict_job import shard_of

    run, words = (None, args.words) if args.weights is not None else (args.words[0], args.words[1:])
    source = Path(run or args.weights)
    if is_exported(source):
        raise ValueError(
            f"{printable(source)}: an exported graph has no end points. Expected a run or a "
            "checkpoint. Pass what the graph was exported from."
        )
    if not words:
        raise ValueError("no IMAGE: expected at least one image after RUN. Pass its path.")
    images = list(images_of(words, recursive=args.recursive))
    if args.shard is not None:
        images = shard_of(images, args.shard)
    if not images:
        raise DataError("no images: expected at least one. Pass paths, or a smaller --shard I/N.")
    return None if run is None else Path(run), images
