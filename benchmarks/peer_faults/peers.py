"""One driver for each peer: how it trains, resumes, saves and reads images."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from peer_faults.children import ask, run_script

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Step:
    """A training step that a log shows."""

    epoch: int
    batch: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a training run is asked for."""

    data: Path
    out: Path
    epochs: int = 2
    batch: int = 8
    lr: float = 0.05
    workers: int = 0
    resume: Path | None = None
    more: tuple[str, ...] = ()


class Peer(ABC):
    """A peer; its libraries are imported once, and children forked after that."""

    name: str
    packages: tuple[str, ...]
    suffix: str  # of the checkpoints
    val = "val"
    reads: tuple[str, ...]  # file name endings that it documents as images
    line: re.Pattern[str]  # one training step in a log
    by_epoch: tuple[str, ...] = ()  # words that make it save after whole epochs only

    @abstractmethod
    def load(self) -> None:
        """Imports the peer."""

    @abstractmethod
    def train(self, training: Training) -> Callable[[], int]: ...

    @abstractmethod
    def checkpoints(self, out: Path) -> list[Path]:
        """Files that a user would resume from, the newest first."""

    @abstractmethod
    def arrays(self, path: Path) -> dict[str, np.ndarray]:
        """The weights in a checkpoint or a final file. Called in a child."""

    @abstractmethod
    def samples(self, root: Path, side: int, answer: list[dict[str, Any]]) -> None:
        """Appends what the peer's evaluation pipeline gives for root/train. Called in a child."""

    @abstractmethod
    def final(self, out: Path) -> Path: ...

    def steps(self, log: str) -> list[Step]:
        return [Step(int(one[1]), int(one[2]), float(one[3])) for one in self.line.finditer(log)]

    def fingerprint(self, path: Path) -> str | None:
        """SHA-256 of the weights; None if the file cannot be read."""
        found, _ = ask(partial(_fingerprint, self, path))
        return str(found) if found else None

    def versions(self) -> str:
        return ", ".join(f"{name} {version(name)}" for name in self.packages)


def _fingerprint(peer: Peer, path: Path) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(peer.arrays(path).items()):
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


def described(label: int, array: np.ndarray) -> dict[str, Any]:
    """An image [H, W, 3] of values 0 to 255 as JSON."""
    rounded = np.rint(array).clip(-1, 256)
    return {
        "label": int(label),
        "shape": list(array.shape),
        "middle": [float(v) for v in rounded[array.shape[0] // 2, array.shape[1] // 2]],
        "mean": float(array.mean()),
        "values": len(np.unique(rounded)),
        "white": float((rounded >= 255).mean()),
        "digest": hashlib.sha256(rounded.astype(np.int16).tobytes()).hexdigest(),
    }


def fit_torch_here() -> None:
    """Makes torch repeatable, and registers what torchvision's wheel for GPUs lacks on a CPU."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    fit_torch_here.library = library  # type: ignore[attr-defined]  # kept alive


def allow_namespace() -> None:
    """torchvision's checkpoints hold an argparse.Namespace, which its own --resume refuses."""
    import argparse

    import torch

    torch.serialization.add_safe_globals([argparse.Namespace])


def _seeded() -> None:
    """torchvision's script has no seed of its own."""
    import random

    import torch

    torch.set_num_threads(1)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


class TorchPeer(Peer):
    """What timm's and torchvision's scripts share."""

    suffix = ".pth"

    def __init__(self, script: Path) -> None:
        self.script = script

    def run(self, words: Sequence[object]) -> Callable[[], int]:
        return partial(run_script, self.script, [str(word) for word in words], self.before)

    def before(self) -> None:
        _seeded()

    def arrays(self, path: Path) -> dict[str, np.ndarray]:
        import argparse

        import torch

        with torch.serialization.safe_globals([argparse.Namespace]):
            held = torch.load(path, map_location="cpu", weights_only=True)
        state = held.get("state_dict", held.get("model"))
        return {name: value.numpy() for name, value in state.items()}

    def pixels(self, dataset: Any, answer: list[dict[str, Any]]) -> None:
        for index in range(len(dataset)):
            try:
                tensor, label = dataset[index]
                array = tensor.double().permute(1, 2, 0).numpy() * 255
                answer.append(described(label, array))
            except BaseException as error:
                answer.append({"error": f"{type(error).__name__}: {error}"})


class Timm(TorchPeer):
    name = "timm"
    packages = ("timm", "torch", "torchvision", "pillow")
    val = "validation"
    by_epoch = ("--recovery-interval", "0")
    reads = (".png", ".jpg", ".jpeg")
    line = re.compile(r"Train: (\d+) \[\s*(\d+)/.*?Loss: ([\w.+-]+)")

    def load(self) -> None:
        fit_torch_here()

    def train(self, training: Training) -> Callable[[], int]:
        words: list[object] = [
            "--data-dir", training.data, "--model", "resnet18", "--num-classes", 6,
            "--img-size", 32, "--device", "cpu", "--epochs", training.epochs,
            "--warmup-epochs", 0, "--cooldown-epochs", 0, "-b", training.batch,
            "--lr", training.lr, "--workers", max(1, training.workers), "--log-interval", 1,
            "--recovery-interval", 4, "--checkpoint-hist", 2, "--output", training.out,
            "--experiment", "run", "--seed", 1,
        ]  # fmt: skip
        if training.resume:
            words += ["--resume", training.resume]
        return self.run([*words, *training.more])

    def checkpoints(self, out: Path) -> list[Path]:
        found = [*(out / "run").glob("last.pth.tar"), *(out / "run").glob("recovery-*")]
        return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)

    def final(self, out: Path) -> Path:
        return out / "run" / "last.pth.tar"

    def samples(self, root: Path, side: int, answer: list[dict[str, Any]]) -> None:
        from timm.data import create_dataset, create_transform

        dataset = create_dataset("", root=str(root), split="train", is_training=False)
        dataset.transform = create_transform(
            (3, side, side), crop_pct=1.0, mean=(0, 0, 0), std=(1, 1, 1)
        )
        self.pixels(dataset, answer)


class TorchVision(TorchPeer):
    name = "torchvision reference"
    packages = ("torchvision", "torch", "pillow")
    reads = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
    line = re.compile(r"Epoch: \[(\d+)\]\s+\[\s*(\d+)/.*?loss: ([\w.+-]+)")

    def load(self) -> None:
        fit_torch_here()

    def before(self) -> None:
        super().before()
        if not os.environ.get("PEER_FAULTS_AS_IT_IS"):
            allow_namespace()

    def train(self, training: Training) -> Callable[[], int]:
        words: list[object] = [
            "--data-path", training.data, "--model", "resnet18", "--device", "cpu",
            "--epochs", training.epochs, "-b", training.batch, "--lr", training.lr,
            "-j", training.workers, "--print-freq", 1, "--output-dir", training.out,
            "--train-crop-size", 32, "--val-crop-size", 32, "--val-resize-size", 32,
            "--use-deterministic-algorithms",
        ]  # fmt: skip
        if training.resume:
            words += ["--resume", training.resume]
        return self.run([*words, *training.more])

    def checkpoints(self, out: Path) -> list[Path]:
        numbered = sorted(out.glob("model_*.pth"), key=lambda p: p.stat().st_mtime, reverse=True)
        return [*out.glob("checkpoint.pth"), *numbered]

    def final(self, out: Path) -> Path:
        return out / "checkpoint.pth"

    def samples(self, root: Path, side: int, answer: list[dict[str, Any]]) -> None:
        sys.path.insert(0, str(self.script.parent))
        from torchvision.datasets import ImageFolder

        presets: Any = __import__("presets")
        preset = presets.ClassificationPresetEval(
            crop_size=side, resize_size=side, mean=(0, 0, 0), std=(1, 1, 1)
        )
        self.pixels(ImageFolder(str(root / "train"), preset), answer)


class Keras(Peer):
    name = "Keras"
    packages = ("keras", "tensorflow-cpu", "h5py")
    suffix = ".h5"
    reads = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
    by_epoch = ("--save-freq", "epoch")
    line = re.compile(r"step epoch (\d+) batch (\d+) loss ([\w.+-]+)")

    def load(self) -> None:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
        os.environ["CUDA_VISIBLE_DEVICES"] = ""

    def train(self, training: Training) -> Callable[[], int]:
        words = [
            "--data", training.data, "--out", training.out, "--epochs", training.epochs,
            "--batch", training.batch, "--lr", training.lr, "--save-freq", 4, *training.more,
        ]  # fmt: skip
        return partial(run_script, HERE / "keras_train.py", [str(word) for word in words])

    def checkpoints(self, out: Path) -> list[Path]:
        return [*(out / "backup").glob("latest.weights.h5")]

    def final(self, out: Path) -> Path:
        return out / "final.keras"

    def arrays(self, path: Path) -> dict[str, np.ndarray]:
        import io
        import zipfile

        import h5py

        file: Any = path
        if path.suffix == ".keras":
            file = io.BytesIO(zipfile.ZipFile(path).read("model.weights.h5"))
        found: dict[str, np.ndarray] = {}

        def note(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and not name.startswith("optimizer"):
                found[name] = np.asarray(item[()])

        with h5py.File(file, "r") as held:
            held.visititems(note)
        return found

    def samples(self, root: Path, side: int, answer: list[dict[str, Any]]) -> None:
        from peer_faults.keras_train import dataset

        batches = dataset(root / "train", side, 1, shuffle=False)
        count, walk = int(batches.cardinality().numpy()), iter(batches)
        for _ in range(count):
            try:
                images, labels = next(walk)
                answer.append(described(labels.numpy()[0], images.numpy()[0].astype(float)))
            except StopIteration:
                break
            except BaseException as error:
                answer.append({"error": f"{type(error).__name__}: {error}"})
