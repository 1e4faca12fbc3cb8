"""Measures what `--balance` does for classes of unequal size.

python benchmarks/imbalance.py [--out FILE]
python benchmarks/imbalance.py --data npz:cifar10_exact_subset.npz --most 400 --ratios 10 50

The training images are a long-tailed part of a data set, made as in Cui et al. 2019, section 5.1:
class i of K keeps most * ratio^(-i / (K - 1)) images. All validation images are kept. Each run uses
the default recipe and its own seed, which also chooses the images that are kept. With the defaults
this takes four minutes of one core. benchmarks/results/imbalance.md has the tables of both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import forebear
from forebear.data.dataset import Dataset, Images
from forebear.data.images.preprocess import fit
from forebear.data.sources.registry import read_data
from forebear.hardware import processor
from forebear.tables.preprocessing import TORCHVISION
from forebear.tasks.evaluate import Evaluation
from forebear.tasks.train.api import train

WAYS = {
    "none": ("balance=none",),
    "loss, effective": ("balance=loss", "balance_weights=effective"),
    "loss, inverse": ("balance=loss", "balance_weights=inverse"),
    "sampler": ("balance=sampler",),
}


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracies of one run, 0 to 1."""

    balanced: float  # mean recall of the classes
    rarest: float  # mean recall of the rarest three tenths of the classes
    as_trained: float  # of images whose classes are as frequent as in training


def long_tailed(
    labels: NDArray[np.int64], classes: int, ratio: float, most: int, seed: int
) -> NDArray[np.int64]:
    """Returns the indices of a long-tailed part, whose class 0 is the largest."""
    random = np.random.default_rng(seed)
    kept = []
    for label in range(classes):
        count = max(1, round(most * ratio ** (-label / (classes - 1))))
        kept.append(random.permutation(np.flatnonzero(labels == label))[:count])
    return np.sort(np.concatenate(kept))


def pixels(images: Images, side: int) -> NDArray[np.uint8]:
    """Returns all images as one array [N, side, side, C]."""
    rule = replace(TORCHVISION, size=side, side=side, resize="shorter", interpolation="bilinear")
    squares = np.stack([np.asarray(fit(images.image(n), rule)) for n in range(len(images))])
    return squares.reshape(len(images), side, side, -1)


def score(found: Evaluation, counts: NDArray[np.int64]) -> Score:
    """Returns the accuracies of a run.

    Args:
        found: Of the validation images.
        counts: Training images [K] of each class.
    """
    recalls = np.diag(found.confusion) / found.confusion.sum(1)
    rare = max(1, round(0.3 * len(counts)))
    return Score(
        balanced=float(recalls.mean()),
        as_trained=float((recalls * counts / counts.sum()).sum()),
        rarest=float(recalls[-rare:].mean()),
    )


def runs(data: Dataset, args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, str, Score]]:
    """Yields the ratio, the way and the score of each run."""
    classes = len(data.classes)
    val = pixels(data.val, args.size)
    images = pixels(data.train, args.size)
    for ratio in args.ratios:
        for way in args.ways:
            for seed in args.seeds:
                kept = long_tailed(data.train.labels, classes, ratio, args.most, seed)
                labels = data.train.labels[kept]
                np.savez(
                    folder / "data.npz",
                    x_train=images[kept],
                    y_train=labels,
                    x_test=val,
                    y_test=data.val.labels,
                )
                run = folder / f"{ratio:g}-{list(WAYS).index(way)}-{seed}"
                done = train(
                    forebear.TrainConfig(
                        data=f"npz:{folder / 'data.npz'}",
                        network=args.network,
                        out=run,
                        sets=WAYS[way],
                        seed=seed,
                        size=args.size,
                        epochs=args.epochs,
                        mirror=data.mirror,
                        threads=args.threads,
                    )
                )
                counts = np.bincount(labels, minlength=classes)
                yield f"{ratio:g} ({len(labels):,} images)", way, score(done.validation, counts)


def table(found: dict[tuple[str, str], list[Score]]) -> list[str]:
    """Returns the lines of the table: mean and standard deviation over the seeds, in percent."""

    def cell(scores: list[Score], name: str) -> str:
        values = [100 * getattr(one, name) for one in scores]
        deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.1f}{deviation}"

    names = [one.name for one in fields(Score)]
    rows = [
        f"| {ratio} | {way} | {' | '.join(cell(scores, name) for name in names)} |"
        for (ratio, way), scores in found.items()
    ]
    return [
        "| largest / smallest class | balance | balanced accuracy | rarest 3 of 10 classes | "
        "accuracy, classes as in training |",
        "| --- | --- | --- | --- | --- |",
        *rows,
    ]


def page(args: argparse.Namespace, found: dict[tuple[str, str], list[Score]]) -> str:
    """Returns the Markdown of the results."""
    kind, _, path = args.data.partition(":")
    data = f"{kind}:{Path(path).name}" if path else kind
    ratios = " ".join(f"{ratio:g}" for ratio in args.ratios)
    return "\n".join(
        [
            f"## Long-tailed parts of {data}",
            "",
            f"`python benchmarks/imbalance.py --data {data} --most {args.most} --ratios {ratios}` "
            f"on {args.threads} core of {processor()}: {args.network}, {args.size} pixels, "
            f"{args.epochs} epochs of the default recipe. Mean and standard deviation of "
            f"{len(args.seeds)} seeds, in percent of the validation images. "
            f"forebear {forebear.__version__}, torch {torch.__version__}.",
            "",
            *table(found),
            "",
        ]
    )


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--network", default="paper/resnet20")
    parser.add_argument("--size", type=int, default=32, help="pixels")
    parser.add_argument("--most", type=int, default=40, help="images of the largest class")
    parser.add_argument("--ratios", type=float, nargs="+", default=[5, 20])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    started, found = time.perf_counter(), dict[tuple[str, str], list[Score]]()
    with tempfile.TemporaryDirectory() as folder:
        for ratio, way, one in runs(read_data(args.data), args, Path(folder)):
            found.setdefault((ratio, way), []).append(one)
            print(ratio, way, one, flush=True)
    text = page(args, found)
    print(text, f"{time.perf_counter() - started:.0f} s", sep="\n")
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
