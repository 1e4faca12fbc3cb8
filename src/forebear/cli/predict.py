"""forebear predict: prints class names and probabilities of images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from forebear.cli import load_model, output
from forebear.data.choices import Bad
from forebear.text import printable

SUMMARY = "Classifies images with a trained network, from a run or any checkpoint."
EXAMPLE = "forebear predict runs/first image.png --top 3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "words",
        nargs="+",
        type=Path,
        metavar="RUN IMAGE",
        help="a run folder or its weights file, then images, or folders with images; with "
        "--weights only the latter",
    )
    load_model.add_arguments(parser)
    parser.add_argument(
        "--top", type=int, default=5, metavar="K", help="classes per image (default: %(default)s)"
    )
    parser.add_argument(
        "--bad",
        choices=get_args(Bad),
        help="images that cannot be read: stop at the first, or leave them out with exit code 0 "
        "(default: leave them out, and exit with code 2 at the end)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per image")


def run(args: argparse.Namespace) -> int:
    """Prints one line per image with its most probable classes.

    Returns:
        0, or 2 if an image could not be read.
    """
    from forebear.errors import DataError
    from forebear.tasks.predict import predict

    run, words = (args.words[0], args.words[1:]) if args.weights is None else (None, args.words)
    if not words:
        raise ValueError("no IMAGE: expected at least one image after RUN. Pass its path.")
    images = [image for word in words for image in _images(word)]
    network = load_model.load_model(run, args)
    failed = 0
    for image in images:
        try:
            _print(next(iter(predict(network, [image], top=args.top))), as_json=args.json)
        except DataError as error:
            if args.bad == "fail":
                raise
            failed += 1
            output.note(str(error))
    if failed:
        output.note(f"{failed:,} of {len(images):,} images could not be read")
    return 2 if failed and args.bad is None else 0


def _images(path: Path) -> list[Path]:
    """Returns the images of a folder and of the folders in it, or the path itself."""
    if not path.is_dir():
        return [path]
    from forebear.data.sources.folders import images_below
    from forebear.errors import DataError

    found = [Path(image) for image in images_below(path)]
    if not found:
        raise DataError(
            f"{printable(path)}: no images inside. Expected a folder with images. Check the path."
        )
    return found


def _print(found: tuple[Path, list[tuple[str, float]]], *, as_json: bool) -> None:
    path, guesses = found
    if as_json:
        rows = [{"class": name, "probability": value} for name, value in guesses]
        output.result_json({"image": str(path), "classes": rows})
    else:
        classes = ", ".join(
            f"{printable(_class_with_word(name))} {value:.2%}" for name, value in guesses
        )
        output.result(f"{printable(path)}: {classes}")


def _class_with_word(name: str) -> str:
    """Returns the class name, followed by its English word if it is an ImageNet synset."""
    from forebear.tables.imagenet_classes import synset_name

    word = synset_name(name)
    return name if word is None else f"{name} ({word})"
