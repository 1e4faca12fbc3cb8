"""Makes a multi-label and a grouped, imbalanced data set from Imagenette, and uses them end to end.

The multi-label images are mosaics: one to three photographs of different classes in a grid of two
by two, whose other places are noise, as JPEG files. They are listed twice, with several labels in a
cell and with one 0/1 column a label. The single-label table has photographs whose classes have from
8 to 80 images, and whose groups are numbered scenes of four photographs each.

    python benchmarks/label_demo.py IMAGENETTE FOLDER --mosaics 1200 --epochs 30

runs check, train, evaluate and predict on both by the command line, and prints what they print.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 112  # pixels: height and width of each photograph of a mosaic
NAMES = {
    "n01440764": "tench", "n02102040": "springer", "n02979186": "cassette", "n03000684": "chainsaw",
    "n03028079": "church", "n03394916": "horn", "n03417042": "lorry", "n03425413": "pump",
    "n03445777": "ball", "n03888257": "parachute",
}  # fmt: skip
# Relative frequency of the classes, so that labels are imbalanced
SHARES = np.array([10, 9, 8, 7, 6, 5, 4, 3, 2, 1]) / 55
SCENE = 4  # photographs of a group in the single-label table


def square(path: Path) -> Image.Image:
    """Returns the middle of a photograph, SIDE x SIDE pixels."""
    with Image.open(path) as image:
        rgb = image.convert("RGB")
    side = min(rgb.size)
    left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
    return rgb.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))


def mosaics(photographs: dict[str, list[Path]], folder: Path, count: int, seed: int) -> None:
    """Writes the mosaics, cells.csv with labels in one cell, and columns.csv with 0/1 columns.

    Every tenth mosaic shows only noise, so that it has no label. A photograph is in one mosaic.
    """
    random, names = np.random.default_rng(seed), list(photographs)
    left = {name: iter(random.permutation(len(own))) for name, own in photographs.items()}
    rows: list[tuple[str, list[str]]] = []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    while len(rows) < count:
        number = len(rows)
        wanted = 0 if number % 10 == 9 else int(random.integers(1, 4))
        chosen = [names[at] for at in random.choice(10, wanted, replace=False, p=SHARES)]
        tiles = []
        for name in chosen:
            place = next(left[name], None)
            if place is not None:
                tiles.append((name, square(photographs[name][place])))
        if len(tiles) < wanted:
            continue
        sheet, places = Image.new("RGB", (SIDE * 2, SIDE * 2)), random.permutation(4)
        for at in range(4):
            if at < len(tiles):
                tile = tiles[at][1]
            else:
                noise = random.integers(90, 166, (SIDE // 8, SIDE // 8, 3), dtype=np.uint8)
                tile = Image.fromarray(noise).resize((SIDE, SIDE))
            sheet.paste(tile, (SIDE * (int(places[at]) % 2), SIDE * (int(places[at]) // 2)))
        file = f"images/{number:05}.jpg"
        sheet.save(folder / file, quality=90)
        rows.append((file, sorted(name for name, _ in tiles)))
    with (folder / "cells.csv").open("w", newline="") as file_:
        table = csv.writer(file_)
        table.writerow(["image", "labels"])
        table.writerows([file, ";".join(labels)] for file, labels in rows)
    with (folder / "columns.csv").open("w", newline="") as file_:
        table = csv.writer(file_)
        table.writerow(["image", *sorted(names)])
        table.writerows([f, *(int(name in own) for name in sorted(names))] for f, own in rows)


def imbalanced(photographs: dict[str, list[Path]], folder: Path, seed: int) -> None:
    """Writes single.csv: image, label, scene, with 80 images of a class down to 8."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "single.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "scene"])
        for place, (name, own) in enumerate(photographs.items()):
            few = random.permutation(len(own))[: 8 * (10 - place)]
            table.writerows(
                [own[at].absolute(), name, f"{name}-{number // SCENE}"]
                for number, at in enumerate(few)
            )


def commands(folder: Path, epochs: int, network: str) -> Iterator[list[str]]:
    """Yields the commands, without the program."""
    few = [str(path) for path in sorted((folder / "multi" / "images").glob("*.jpg"))[:6]]
    common = ["--network", network, "--epochs", str(epochs), "--size", "64", "--replace"]
    cells = [f"csv:{folder}/multi/cells.csv", "--multi-label"]
    columns = [f"csv:{folder}/multi/columns.csv"]
    single = [f"csv:{folder}/single/single.csv", "--group-by", "scene"]
    for name, data, more in (
        ("cells", cells, ["--patience", "6"]),
        ("columns", columns, ["--balance", "loss"]),
        ("single", single, ["--balance", "auto", "--metric", "macro-f1"]),
    ):
        run = str(folder / "runs" / name)
        yield ["check", *data]
        yield ["train", "--data", *data, *common, *more, "--out", run]
        yield ["evaluate", run, "--data", *data]
        yield ["predict", run, *few]
        yield ["predict", run, *few, "--out", str(folder / f"{name}.csv"), "--replace"]


def run(words: Sequence[str]) -> float:
    """Runs a command of forebear, and returns its seconds."""
    print(f"\n$ forebear {shlex.join(words)}", flush=True)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "forebear", *words], check=True)
    return time.perf_counter() - started


def main() -> None:
    """Makes the data and runs the commands."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("imagenette", type=Path, help="the folder with train and val")
    parser.add_argument("folder", type=Path, help="where data and runs are written")
    parser.add_argument("--mosaics", type=int, default=1200)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--network", default="paper/resnet20")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    photographs = {
        name: sorted((args.imagenette / "train" / synset).glob("*.JPEG"))
        for synset, name in NAMES.items()
    }
    mosaics(photographs, args.folder / "multi", args.mosaics, args.seed)
    imbalanced(photographs, args.folder / "single", args.seed)
    for words in commands(args.folder, args.epochs, args.network):
        print(f"({run(words):.1f} s)", flush=True)


if __name__ == "__main__":
    main()
