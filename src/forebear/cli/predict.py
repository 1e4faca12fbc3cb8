"""forebear predict: prints class names and probabilities of images."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from forebear.cli import load_model
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
        help="a run folder or its weights file, then images; only images with --weights",
    )
    load_model.add_arguments(parser)
    parser.add_argument(
        "--top", type=int, default=5, metavar="K", help="classes per image (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per image")


def run(args: argparse.Namespace) -> int:
    """Prints one line per image with its most probable classes."""
    from forebear.tasks.predict import predict

    run, images = (args.words[0], args.words[1:]) if args.weights is None else (None, args.words)
    if not images:
        raise ValueError("no IMAGE: expected at least one image after RUN. Pass its path.")
    network = load_model.load_model(run, args)
    for path, guesses in predict(network, images, top=args.top):
        if args.json:
            found = [{"class": name, "probability": value} for name, value in guesses]
            line = json.dumps({"image": str(path), "classes": found}, ensure_ascii=False)
            # JSON leaves some control characters and undecodable bytes as they are.
            print(line if line.isprintable() else json.dumps(json.loads(line)))
        else:
            classes = ", ".join(f"{_class_with_word(name)} {value:.2%}" for name, value in guesses)
            print(f"{printable(path)}: {classes}")
    return 0


def _class_with_word(name: str) -> str:
    """Returns the class name, followed by its English word if it is an ImageNet synset."""
    from forebear.tables.imagenet_classes import synset_name

    word = synset_name(name)
    return printable(name) if word is None else f"{name} ({word})"
