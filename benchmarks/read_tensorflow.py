"""Times the reading of ~100 MB TensorFlow checkpoints against TensorFlow's own reader.

python benchmarks/read_tensorflow.py [--repeats N] [--megabytes N]

Runs where forebear and TensorFlow are both installed. The files are written into a temporary
folder and read from the page cache, every array once, by both readers in turn; the order changes
from repeat to repeat. Prints a Markdown table to stdout.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf  # type: ignore[import-untyped,unused-ignore]

import forebear
from forebear.hardware import processor
from forebear.weights.readers.base import Array
from forebear.weights.readers.tensorflow.open import open_tensorflow
from forebear.weights.writers.tensorflow.checkpoint_v2 import write_tensorflow


def network(megabytes: int) -> dict[str, Array]:
    """Arrays of the sizes of a ResNet-50's: few large kernels, many small vectors."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Array] = {}
    size = unit = 0
    while size < megabytes * 1_000_000:
        width = (64, 128, 256, 512)[unit % 4]
        shapes: dict[str, tuple[int, ...]] = {
            "conv1/weights": (1, 1, 4 * width, width),
            "conv2/weights": (3, 3, width, width),
            "conv3/weights": (1, 1, width, 4 * width),
        }
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            shapes |= {f"conv{n}/BatchNorm/{name}": (width,) for n in (1, 2)}
            shapes[f"conv3/BatchNorm/{name}"] = (4 * width,)
        for name, shape in shapes.items():
            array = rng.standard_normal(shape, np.float32)
            arrays[f"resnet_v1_50/block/unit_{unit}/bottleneck_v1/{name}"] = array
            size += array.nbytes
        unit += 1
    return arrays


def ours(path: Path) -> int:
    with open_tensorflow(path) as arrays:
        return sum(arrays[name].nbytes for name in arrays)


def theirs(path: Path) -> int:
    reader = tf.train.load_checkpoint(str(path))
    return sum(reader.get_tensor(name).nbytes for name in reader.get_variable_to_shape_map())


def interleaved(path: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of each reader, repeat by repeat."""
    readers: dict[str, Callable[[Path], int]] = {"forebear": ours, "tensorflow": theirs}
    times: dict[str, list[float]] = {name: [] for name in readers}
    size = ours(path)
    if theirs(path) != size:
        raise SystemExit(f"{path}: the two readers give different sizes")
    for repeat in range(repeats):
        for name in sorted(readers, reverse=bool(repeat % 2)):
            start = time.perf_counter()
            readers[name](path)
            times[name].append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=15, help="(default: %(default)s)")
    parser.add_argument("--megabytes", type=int, default=100, help="(default: %(default)s)")
    args = parser.parse_args()
    arrays = network(args.megabytes)
    with tempfile.TemporaryDirectory() as folder:
        v1, v2 = Path(folder) / "v1.ckpt", Path(folder) / "v2.ckpt"
        tensors = [tf.constant(array) for array in arrays.values()]
        tf.raw_ops.Save(filename=str(v1), tensor_names=list(arrays), data=tensors)
        del tensors
        write_tensorflow(v2, arrays.items())
        total = sum(array.nbytes for array in arrays.values()) / 1e6
        print(f"{len(arrays)} arrays, {total:.0f} MB; median (least to most) of {args.repeats}")
        print()
        print("| format | forebear, ms | tensorflow, ms | forebear, GB/s | time / tensorflow's |")
        print("| --- | --- | --- | --- | --- |")
        for name, path in (("V1", v1), ("V2", v2)):
            times = interleaved(path, args.repeats)
            cells = [
                f"{1e3 * statistics.median(t):.0f} ({1e3 * min(t):.0f} to {1e3 * max(t):.0f})"
                for t in times.values()
            ]
            ours_, theirs_ = (statistics.median(t) for t in times.values())
            print(
                f"| {name} | {cells[0]} | {cells[1]} | {total / 1e3 / ours_:.2f} "
                f"| {ours_ / theirs_:.2f} |"
            )
    print()
    print(
        f"{processor()}, {processor().cores} cores, {platform.system()}; Python "
        f"{platform.python_version()}, numpy {np.__version__}, tensorflow {tf.__version__}, "
        f"forebear {forebear.__version__}"
    )


if __name__ == "__main__":
    main()
