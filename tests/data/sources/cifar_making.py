"""Small archives of CIFAR-10, in both forms."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forebear.data.sources.cifar10 import CLASSES

BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
COUNT = 4  # images a batch


def planes(batch: int) -> NDArray[np.uint8]:
    return np.random.default_rng(batch).integers(0, 256, (COUNT, 3072), dtype=np.uint8)


def labels(batch: int) -> list[int]:
    return [(batch + place) % 10 for place in range(COUNT)]


def python_batch(batch: int) -> bytes:
    entries = {b"data": planes(batch), b"labels": labels(batch), b"filenames": [b"x.png"] * COUNT}
    return pickle.dumps(entries, protocol=2)


def binary_batch(batch: int) -> bytes:
    return b"".join(
        bytes([label]) + row.tobytes()
        for label, row in zip(labels(batch), planes(batch), strict=True)
    )


def python_files() -> dict[str, bytes]:
    files = {name: python_batch(number) for number, name in enumerate(BATCHES)}
    names = [name.encode() for name in CLASSES]
    return {**files, "batches.meta": pickle.dumps({b"label_names": names}, protocol=2)}


def binary_files() -> dict[str, bytes]:
    files = {f"{name}.bin": binary_batch(number) for number, name in enumerate(BATCHES)}
    return {**files, "batches.meta.txt": "\n".join([*CLASSES, ""]).encode()}


def archive(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "cifar.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def unpacked(folder: Path, files: dict[str, bytes]) -> Path:
    inner = folder / (
        "cifar-10-batches-bin" if "test_batch.bin" in files else "cifar-10-batches-py"
    )
    inner.mkdir()
    for name, content in files.items():
        (inner / name).write_bytes(content)
    return folder
