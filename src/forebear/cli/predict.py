"""forebear predict: a trained network and pictures in, class names and probabilities out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from forebear.cli import load_model as model

SUMMARY = "Names what is in pictures, with probabilities, by a run or by any checkpoint."
EXAMPLE = "forebear predict runs/first picture.png --top 3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "words",
        nargs="+",
        type=Path,
        metavar="RUN IMAGE",
        help="a run's folder or its weights, then pictures; pictures alone with --weights",
    )
    model.add_arguments(parser)
    parser.add_argument(
        "--top", type=int, default=5, metavar="K", help="classes per image (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(args: argparse.Namespace) -> int:
    """Prints one line a picture, or its classes one a line when there are several to print."""
    from forebear.tasks.predict import predict

    run, images = (args.words[0], args.words[1:]) if args.weights is None else (None, args.words)
    if not images:
        raise ValueError("no IMAGE: expected at least one picture after RUN. Pass its path.")
    network = model.load_model(run, args)
    for path, guesses in predict(network, images, top=args.top):
        if args.json:
            found = [{"class": name, "probability": share} for name, share in guesses]
            print(json.dumps({"image": str(path), "classes": found}, ensure_ascii=False))
        else:
            named = ", ".join(f"{_class_with_word(name)} {share:.2%}" for name, share in guesses)
            print(f"{path}: {named}")
    return 0


def _class_with_word(name: str) -> str:
    """A class's name; with the word beside it where the name is a synset of ImageNet's."""
    from forebear.tables.imagenet_classes import synset_name

    word = synset_name(name)
    return name if word is None else f"{name} ({word})"
