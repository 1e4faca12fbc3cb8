"""Measures calibration errors before and after temperature scaling, and how "unknown" works.

python benchmarks/calibration.py [--imagenette FOLDER] [--fashion FOLDER] [--runs FOLDER]
    [--out benchmarks/results/calibration.md]

- Calibration: networks that are trained on Imagenette for five minutes at 64 pixels, with label
  smoothing as in the default recipe and without, and one that is trained on scikit-learn's digits
  for 20 epochs. Each half of the validation images is measured with the
  temperature that was fitted on the other half.
- Unknown: the test images of Fashion-MNIST (Xiao et al. 2017) are shown to the networks. The
  threshold comes from known images. The share of known images that are called unknown is measured
  by halves, too.

Fashion-MNIST is read from the four .gz files of Debian's package dataset-fashion-mnist. Runs that
are already in --runs are used as they are.
"""

from __future__ import annotations

import argparse
import gzip
import platform
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import forebear
from forebear.engines.classifier import classifier_of, scores
from forebear.engines.torch_engine import TorchEngine
from forebear.hardware import processor
from forebear.network.calibration import Score
from forebear.tasks.calibration import Fit, calibrate
from forebear.tasks.evaluate import Evaluation, evaluate_on
from forebear.tasks.runs.plots import draw_reliability
from forebear.tasks.runs.read import load_run

RATES = (0.01, 0.05, 0.10)  # of known images that may be called unknown
BATCH = 256


def network_of(run: Path, config: dict[str, Any]) -> forebear.Network:
    """The network of a run, which is trained if it is not there."""
    if not (run / "model.safetensors").is_file():
        forebear.train(forebear.TrainConfig(out=run, seed=0, **config))
    return load_run(run)


def fashion(folder: Path, count: int) -> NDArray[np.uint8]:
    """The first test images of Fashion-MNIST, [count, 28, 28]."""
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        content = np.frombuffer(file.read(), np.uint8, offset=16)
    return content.reshape(-1, 28, 28)[:count]


def foreign(network: forebear.Network, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The logits of images that are no class of the network."""
    classifier = classifier_of(TorchEngine(network), network)
    rows = []
    for at in range(0, len(images), BATCH):
        pixels: Any = np.stack([classifier.pixels(one) for one in images[at : at + BATCH]])
        rows.append(classifier.logits(pixels))
    return np.concatenate(rows)


def calibration_row(name: str, epochs: float, known: Evaluation, fit: Fit, seconds: float) -> str:
    made = fit.calibration
    halves = ", ".join(f"{100 * before:.2f} and {100 * after:.2f}" for before, after in fit.halves)
    return (
        f"| {name} | {epochs:.1f} | {100 * known.top1:.2f} | {made.images:,} | "
        f"{made.temperature:.3f} | {100 * made.ece_before:.2f} | "
        f"{100 * made.ece_after:.2f} | {halves} | "
        f"{100 * fit.adaptive_before:.2f} | {100 * fit.adaptive_after:.2f} | {1e3 * seconds:.0f} |"
    )


def unknown_row(name: str, known: Evaluation, strange: NDArray[np.float32], score: Score) -> str:
    assert known.kept is not None
    logits, cells = known.kept.logits, []
    for rate in RATES:
        fit = calibrate(logits, known.labels, unknown=rate, score=score)
        made = fit.calibration
        called = scores(strange, made.temperature, score) < made.threshold
        cells.append(f"{100 * fit.unknown:.1f} and {100 * called.mean():.1f}")
    both = np.concatenate([scores(one, made.temperature, score) for one in (logits, strange)])
    auroc = roc_auc_score([1] * len(logits) + [0] * len(strange), both)
    return f"| {name} | {score} | {' | '.join(cells)} | {100 * auroc:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--imagenette", type=Path, default=Path("../shared/data/imagenette"))
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--runs", type=Path, default=Path(tempfile.gettempdir()) / "calibration")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/calibration.md"))
    args = parser.parse_args()
    imagenette, minutes = f"folder:{args.imagenette}", 5
    images = {"data": imagenette, "size": 64, "budget": 60.0 * minutes}
    digits = {"data": "digits", "network": "paper/resnet20", "epochs": 20}
    configs: dict[str, dict[str, Any]] = {
        "imagenette": images,
        "imagenette-hard": {**images, "sets": ("label_smoothing=0",)},
        "digits": digits,
    }
    calibrations, unknowns = [], []
    for name, config in configs.items():
        network = network_of(args.runs / name, config)
        known = evaluate_on(network, config["data"], part="val", keep_logits=True)
        assert known.kept is not None
        started = time.perf_counter()
        fit = calibrate(known.kept.logits, known.labels)
        seconds = time.perf_counter() - started
        title = f"{network.table.name} on {name.replace('-hard', ' without label smoothing')}"
        calibrations.append(
            calibration_row(title, network.card.metrics["epochs"], known, fit, seconds)
        )
        plot = args.out.with_name(f"calibration-{name}.png")
        draw_reliability({"before": fit.before, "after": fit.after}, plot, title)
        strange = foreign(network, fashion(args.fashion, 10_000 if name == "digits" else 2_000))
        for score in get_args(Score):
            unknowns.append(
                unknown_row(f"{title}; {len(strange):,} of Fashion-MNIST", known, strange, score)
            )
    chip = processor()
    rates = " | ".join(f"{rate:.0%} asked: known and foreign" for rate in RATES)
    args.out.write_text(
        "# Calibration and unknown images\n\n"
        f"`python benchmarks/calibration.py` on {chip.cores} cores of {chip.name} ({chip.level}). "
        f"forebear {forebear.__version__}, torch {torch.__version__}, Python "
        f"{platform.python_version()}. All errors and rates are percentages.\n\n"
        f"The networks of Imagenette were trained for {minutes} minutes at 64 pixels with label "
        "smoothing of 0.1, as in the default recipe, and without. Other programs ran at the same "
        "time, so that they took different numbers of epochs: compare the columns of a row, and "
        "not the rows. Each half of the validation images is measured with the temperature that "
        "was fitted on the other half. The time of the fit includes this measurement.\n\n"
        "| network | epochs | top-1 | images | temperature | ECE before | ECE after | ECE of each "
        "half, before and after | adaptive ECE before | after | fit, ms |\n"
        f"| {' | '.join(['---'] * 11)} |\n"
        + "\n".join(calibrations)
        + "\n\nShares that are called unknown, of the known images (by halves, as above) and of "
        "foreign ones. AUROC compares the scores of both.\n\n"
        f"| network and foreign images | score | {rates} | AUROC |\n"
        "| --- | --- | --- | --- | --- | --- |\n" + "\n".join(unknowns) + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
