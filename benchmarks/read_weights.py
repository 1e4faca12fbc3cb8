"""Times reading of one network's weights in every format against the library that owns it.

Run in the environment that `make peers` makes: python benchmarks/read_weights.py. Prints a Markdown
table: medians of interleaved runs, page cache warm, every array read once.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from safetensors.torch import load_file

import forebear
from forebear.hardware import processor
from forebear.tasks.convert import convert

RUNS = 9


def forebear_reads(path: Path) -> None:
    with forebear.read_arrays(path) as arrays:
        for name in arrays:
            arrays[name]


def tensorflow_reads(path: Path) -> None:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(path))
    for name in reader.get_variable_to_shape_map():
        reader.get_tensor(name)


def torch_reads(path: Path) -> None:
    torch.load(path, map_location="cpu", weights_only=True)


def h5py_reads(path: Path) -> None:
    import h5py

    def read(_: str, item: object) -> None:  # a result would end the visit
        if isinstance(item, h5py.Dataset):
            item[()]

    with h5py.File(path) as file:
        file.visititems(read)


def safetensors_reads(path: Path) -> None:
    for tensor in load_file(path).values():
        tensor.clone()  # it maps the file, and would read nothing


def seconds(read: Callable[[Path], None], path: Path) -> float:
    start = time.perf_counter()
    read(path)
    return time.perf_counter() - start


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    rows = []
    for name, file, library, read in (
        ("slim/resnet_v1_50", "a.ckpt", "tensorflow", tensorflow_reads),
        ("keras/ResNet50", "a.weights.h5", "h5py", h5py_reads),
        ("torchvision/resnet50", "a.pth", "torch", torch_reads),
        ("torchvision/resnet50", "a.safetensors", "safetensors", safetensors_reads),
    ):
        forebear.save(forebear.create(name), folder / "source.safetensors")
        home = name.split("/")[0]
        convert(folder / "source.safetensors", folder / file, to=home, replace=True)
        try:
            read(folder / file)
        except ImportError:
            print(f"{library} is not installed: left out")
            continue
        forebear_reads(folder / file)
        pairs = [
            (seconds(forebear_reads, folder / file), seconds(read, folder / file))
            for _ in range(RUNS)
        ]
        mine, theirs = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        rows.append(f"| {file[1:]} | {library} | {mine:.0f} | {theirs:.0f} | {ratio:.2f} |")
    print("| ResNet-50 as | library | forebear, ms | library, ms | forebear / library |")
    print("| --- | --- | --- | --- | --- |")
    print("\n".join(rows))
    versions = []
    for package in ("forebear", "tensorflow", "h5py", "torch", "safetensors", "numpy"):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    print(f"\n{processor()}, {torch.get_num_threads()} threads; {', '.join(versions)}")


if __name__ == "__main__":
    main()
