"""forebear predict: a trained network and pictures in, class names and probabilities out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

SUMMARY = "Names what is in pictures, with probabilities, by a network that forebear trained."
EXAMPLE = "forebear predict runs/first picture.png --top 3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("model", type=Path, metavar="RUN", help="a run folder or its weights file")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument(
        "--top", type=int, default=5, metavar="K", help="classes per image (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(args: argparse.Namespace) -> int:
    """Prints one line a picture, or its classes one a line when there are several to print."""
    from forebear.tasks.predict import predict
    from forebear.tasks.train.folder import load_run

    for path, guesses in predict(load_run(args.model), args.images, top=args.top):
        if args.json:
            found = [{"class": name, "probability": share} for name, share in guesses]
            print(json.dumps({"image": str(path), "classes": found}, ensure_ascii=False))
        else:
            named = ", ".join(f"{name} {share:.2%}" for name, share in guesses)
            print(f"{path}: {named}")
    return 0
