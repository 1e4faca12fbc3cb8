"""Measures what the guards cost: in a step, at the start, in a checkpoint, and in forebear check.

python benchmarks/guards.py [--out benchmarks/results/guards.md]

- A step: ResNet-18 at 32 pixels and batch 128, and ResNet-20; the time that a step spends in its
  guard against steps that are not finite, beside the time of the whole step.
- The start: `forebear --help` in processes of its own.
- A checkpoint: a file of 200 MB with its hash, flushed to the disk and renamed, beside plain
  safetensors without any of them.
- `forebear check`: images of a folder per second, decoded, hashed and looked at.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import forebear
from forebear.data.sources.registry import read_data
from forebear.hardware import processor
from forebear.network.accelerate import accelerate
from forebear.tasks.check import check
from forebear.tasks.machine.distributed import ALONE
from forebear.tasks.train.finite import FiniteGuard
from forebear.tasks.train.recipe_files import read_recipe
from forebear.tasks.train.resume.checkpoint import save_checkpoint
from forebear.tasks.train.state import TrainState
from forebear.tasks.train.step import Stepper

ROUNDS = 40


def timed(run: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median seconds of a call."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def guard_share(name: str, size: int, batch: int) -> tuple[float, float]:
    """Seconds of a step, and those of them that its guard takes."""
    device = torch.device("cpu")
    precision = "bf16" if processor().bf16 else "fp32"
    recipe = replace(read_recipe("default"), batch=batch, size=size, precision=precision)
    network = forebear.create(name, num_classes=10)
    network.to(memory_format=torch.channels_last)
    accelerate(network)
    stepper = Stepper(network, network, recipe, device, ALONE, mode="off")
    images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,))
    step = timed(lambda: stepper(images, labels, labels, total=batch, share=0.1))
    guard = FiniteGuard(network, device)
    norm, seen = torch.tensor(1.0), torch.tensor([1.0])

    def watch() -> None:
        guard.remember()
        guard.judge(norm, seen)
        int(guard.in_row)

    return step, timed(watch, 200)


def start() -> float:
    """Seconds of `forebear --help`."""
    words = [sys.executable, "-m", "forebear", "--help"]
    return timed(lambda: subprocess.run(words, capture_output=True, check=True), 15)


def checkpoint(folder: Path) -> tuple[float, float, float]:
    """Megabytes of a checkpoint, and its speed with and without hash and flush, MB/s."""
    tensors = {str(n): torch.randn(1000, 1000) for n in range(50)}
    size = sum(tensor.nbytes for tensor in tensors.values()) / 1e6
    state = {"network": tensors}
    steps = iter(range(1, 10**6))
    guarded = timed(
        lambda: save_checkpoint(folder / "checkpoints", state, TrainState(step=next(steps))), 9
    )
    plain = timed(lambda: save_file(tensors, folder / "plain.safetensors"), 9)
    return size, size / guarded, size / plain


def images(folder: Path, count: int = 2000, side: int = 256) -> float:
    """Images per second of forebear check, for JPEGs of side x side pixels."""
    random = np.random.default_rng(0)
    for number in range(count):
        path = folder / "images" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        small.resize((side, side)).save(path)
    data = read_data(f"folder:{folder / 'images'}")
    return count / check(data).seconds


def main() -> None:
    """Prints the table, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = []
    for name, size, batch in (("torchvision/resnet18", 32, 128), ("paper/resnet20", 32, 128)):
        step, guard = guard_share(name, size, batch)
        rows.append(
            f"| guard in a step of {name}, {size} px, batch {batch} | {guard * 1e3:.2f} of "
            f"{step * 1e3:.1f} ms: {guard / step:.2%} |"
        )
    rows.append(f"| start of `forebear --help` | {start():.2f} s |")
    with tempfile.TemporaryDirectory() as folder:
        size, guarded, plain = checkpoint(Path(folder))
        rows.append(
            f"| checkpoint of {size:.0f} MB, hashed and flushed | {guarded:,.0f} MB/s "
            f"(plain safetensors, neither: {plain:,.0f}) |"
        )
        rows.append(
            "| `forebear check`, JPEGs of 256 x 256 pixels | "
            f"{images(Path(folder)):,.0f} images/s |"
        )
    text = "\n".join(
        [
            "# What the guards cost",
            "",
            f"`python benchmarks/guards.py` on {processor().cores} cores of {processor()}; "
            f"medians. forebear {forebear.__version__}, torch {torch.__version__}, "
            f"Python {platform.python_version()}.",
            "",
            "| what | figure |",
            "| --- | --- |",
            *rows,
            "",
        ]
    )
    print(text)
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
