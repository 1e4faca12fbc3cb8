"""A tiny data set, a tiny network, and what a run leaves, read without forebear."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open

TABLE = """
name = "tiny"
form = "basic"
image_size = 32
[[root]]
kind = "conv"
name = "conv1"
channels = 8
kernel = 3
stride = 2
[[blocks]]
name = "block1"
units = 1
width = 8
channels = 8
[[blocks]]
name = "block2"
units = 1
width = 16
channels = 16
stride = 2
[[blocks]]
name = "block3"
units = 1
width = 32
channels = 32
stride = 2
"""
CLASSES = ("across", "down", "grey")
IMAGES, SIDE = 256, 32
BATCH, EPOCHS, EVERY = 8, 2, 5  # images a step, epochs, steps between two checkpoints
STEPS = 28  # an epoch: 85 % of the images
LAST = STEPS * EPOCHS
RECIPE = (
    "optimizer=sgd", "momentum=0.9", "lr=0.02", "crop=shift", "mirror=random", "mixup=0.2",
    "ema=0.9", "batch_norm=own", "label_smoothing=0.1", "eval_size=32",
)  # fmt: skip


def pixels() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Stripes across, stripes down or none, with noise: uint8 [256, 32, 32, 3], and labels."""
    random = np.random.default_rng(0)
    labels = np.arange(IMAGES) % len(CLASSES)
    images = np.empty((IMAGES, SIDE, SIDE, 3), np.uint8)
    for image, label in zip(images, labels, strict=True):
        wave = 90 * np.sign(np.sin(np.arange(SIDE) * np.pi / 2 + random.uniform(0, 6)))
        stripes = (wave[:, None, None], wave[None, :, None], np.zeros((1, 1, 1)))[label]
        image[:] = (128 + stripes + random.normal(0, 20, image.shape)).clip(0, 255)
    return images, labels


def as_folder(path: Path, suffix: str = ".png") -> Path:
    """Writes the images as files, a folder a class."""
    for number, (image, label) in enumerate(zip(*pixels(), strict=True)):
        folder = path / CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:03}{suffix}")
    return path


def as_npz(path: Path) -> Path:
    """Writes the images as one file."""
    save_npz(path, *pixels())
    return path


def save_npz(path: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """Writes images as one file; the last 40 are for validation."""
    np.savez(
        path,
        x_train=images[:-40],
        y_train=labels[:-40],
        x_test=images[-40:],
        y_test=labels[-40:],
        classes=np.array(CLASSES),
    )


def make_place(path: Path) -> Path:
    """Makes the folder of all tests: data, data.npz and tiny.toml."""
    as_folder(path / "data")
    as_npz(path / "data.npz")
    (path / "tiny.toml").write_text(TABLE)
    return path


def train(place: Path, out: Path, *more: object, data: str = "") -> tuple[object, ...]:
    """Returns the words of a run."""
    return (
        "train", "--data", data or f"folder:{place / 'data'}", "--network", place / "tiny.toml",
        "--dialect", "torchvision", "--out", out, "--size", SIDE, "--batch", BATCH,
        "--epochs", EPOCHS, "--save-every", EVERY, "--seed", 3, "--precision", "fp32",
        "--device", "cpu", "--deterministic", "--threads", 1,
        *(word for one in RECIPE for word in ("--set", one)), *more,
    )  # fmt: skip


def resume(out: Path, *more: object) -> tuple[object, ...]:
    """Returns the words of a run that goes on."""
    return ("train", "--resume", out, *more)


def metrics(out: Path) -> list[dict[str, Any]]:
    """Returns the lines of metrics.jsonl."""
    path = out / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def marks(out: Path) -> tuple[str, list[dict[str, str]]]:
    """Returns a SHA-256 of the final weights, and each number of the metrics that no clock enters.

    Also asserts that nothing temporary is left.
    """
    assert leftovers(out) == []
    names = (
        "epoch", "step", "lr", "loss", "accuracy", "val_loss", "val_accuracy", "skipped",
        "losses", "lrs",
    )  # fmt: skip
    lines = [{name: _exact(line[name]) for name in names} for line in metrics(out)]
    return arrays_hash(out / "model.safetensors"), lines


def _exact(value: Any) -> str:
    return " ".join(map(_exact, value)) if isinstance(value, list) else float(value).hex()


def arrays(path: Path, prefix: str = "") -> dict[str, NDArray[Any]]:
    """Returns the arrays of a safetensors file whose names begin with a prefix."""
    with safe_open(path, "np") as file:
        names = sorted(name for name in file.keys() if name.startswith(prefix))  # noqa: SIM118
        return {name: file.get_tensor(name) for name in names}


def arrays_hash(path: Path, prefix: str = "") -> str:
    """Returns a SHA-256 of these arrays and their names."""
    total = hashlib.sha256()
    for name, array in arrays(path, prefix).items():
        total.update(f"{name} {array.dtype} {array.shape}\0".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def checkpoints(out: Path) -> list[Path]:
    """Returns the checkpoints of a run, the newest first."""
    return sorted((out / "checkpoints").glob("step-*.safetensors"), reverse=True)


def step_of(path: Path) -> int:
    """Returns the step of a checkpoint."""
    return int(path.stem.removeprefix("step-"))


def leftovers(out: Path) -> list[str]:
    """Returns the hidden files of a run, such as temporary ones and the lock."""
    return sorted(path.name for path in out.rglob(".*"))


def contents(path: Path) -> dict[str, bytes]:
    """Returns what the files of a folder hold, but for the lock."""
    files = sorted(one for one in path.rglob("*") if one.is_file() and one.name != ".lock")
    return {str(one.relative_to(path)): one.read_bytes() for one in files}


def copied(source: Path, target: Path) -> Path:
    """Copies a folder with the times of its files."""
    shutil.copytree(source, target, copy_function=shutil.copy2)
    return target


def same_stat(path: Path, data: bytes) -> None:
    """Overwrites a file so that its size and its time of change stay."""
    before = path.stat()
    assert before.st_size == len(data)
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
