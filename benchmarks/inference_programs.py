"""Whole programs for benchmarks/inference.py: starts, and folders of JPEGs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from inference_contenders import add_torchvision_operators, random_network

import forebear
from forebear.engines.compare import synthetic_images
from forebear.engines.engine import EngineRequest
from forebear.engines.open import open_classifier
from forebear.hardware import processor

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH = 16
SECONDS, LEAST = 90.0, 3  # rounds end then, once there are so many
LIBRARIES = "import numpy, PIL.Image, onnxruntime"
# What a user of timm writes, with local weights; the operators are those of a missing C++ part.
TIMM_IMAGE = """
import sys
import torch
library = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    try:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except RuntimeError:
        pass
import timm
from PIL import Image
weights, path = sys.argv[1:]
model = timm.create_model("resnet50", checkpoint_path=weights).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
with torch.inference_mode():
    logits = model(transform(Image.open(path).convert("RGB"))[None])
names = timm.data.ImageNetInfo()
shares, places = logits.softmax(1)[0].topk(5)
for share, place in zip(shares.tolist(), places.tolist()):
    print(names.index_to_description(place), f"{share:.4f}")
"""


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder for weights, results and forebear's cache, for as long as the context lasts."""
    before = os.environ.get("FOREBEAR_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FOREBEAR_HOME"] = str(Path(folder) / "home")
        try:
            yield Path(folder)
        finally:
            os.environ.pop("FOREBEAR_HOME")
            if before is not None:
                os.environ["FOREBEAR_HOME"] = before


def seconds_of(words: list[str], home: Path | None = None) -> float:
    """Seconds of a process, from its start to its end."""
    extra = {} if home is None else {"FOREBEAR_HOME": str(home)}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words], env={**os.environ, **extra}, capture_output=True, text=True
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{words}: {done.stderr}")
    return seconds


def cold(rounds: int = 10) -> dict[str, list[float]]:
    """Seconds of each program, from its start to its end, in interleaved rounds."""
    with workplace() as folder:
        weights, image = folder / "resnet50.safetensors", folder / "image.jpg"
        forebear.save(random_network("torchvision/resnet50"), weights)
        synthetic_images(1, 500)[0].save(image, quality=90)
        predict = ["-m", "forebear", "predict", str(weights), str(image)]
        programs = {
            "forebear predict, choice kept": predict,
            f'python -c "{LIBRARIES}"': ["-c", LIBRARIES],
        }
        theirs = _timm_weights(folder)
        if theirs is not None:
            programs["timm, eager torch"] = ["-c", TIMM_IMAGE, str(theirs), str(image)]
        for words in programs.values():
            seconds_of(words)
        taken: dict[str, list[float]] = {name: [] for name in programs}
        begun = time.perf_counter()
        for done in range(rounds):
            if done >= LEAST and time.perf_counter() - begun > SECONDS:
                break  # the machine is busy
            for name, words in programs.items():
                taken[name].append(seconds_of(words))
        taken["forebear predict, no cache: measures the engines"] = [
            seconds_of(predict, folder / f"home{number}") for number in range(3)
        ]
        return taken


def _timm_weights(folder: Path) -> Path | None:
    try:
        add_torchvision_operators()
        import timm
    except ImportError:
        return None
    from safetensors.torch import save_file

    path = folder / "timm.safetensors"
    save_file(timm.create_model("resnet50").state_dict(), path)
    return path


def folders(source: Path, count: int, rounds: int = 3) -> dict[str, list[float]]:
    """Images per second of each way through a sample of a folder's JPEGs, in rounds."""
    with workplace() as folder:
        weights, sample = folder / "resnet18.safetensors", folder / "images"
        forebear.save(random_network("torchvision/resnet18"), weights)
        found = sorted(source.rglob("*.[jJ][pP]*[gG]"))
        chosen = [found[at * len(found) // count] for at in range(min(count, len(found)))]
        sample.mkdir()
        paths = [sample / f"{number:06}{path.suffix}" for number, path in enumerate(chosen)]
        for path, copy in zip(chosen, paths, strict=True):
            shutil.copy(path, copy)
        result = folder / "r.csv"
        words = ["-m", "forebear", "predict", str(weights), str(sample), "--out", str(result)]
        for precision in ("auto", "bf16") if processor().bf16 else ("auto",):
            seconds_of([*words, "--replace", "--precision", precision])  # measures the engines
        ways = {
            "forebear predict, the whole process": lambda: seconds_of([*words, "--replace"]),
            "forebear predict --precision bf16, the whole process": lambda: seconds_of(
                [*words, "--replace", "--precision", "bf16"]
            ),
            "its engine alone": lambda: _engine_alone(weights, paths),
            "its decoding alone, a thread for each core": lambda: _decoding_alone(weights, paths),
            "peer's loop: DataLoader, timm's transform, eager torch": lambda: _loop(sample),
        }
        if not processor().bf16:
            ways = {name: way for name, way in ways.items() if "bf16" not in name}
        taken: dict[str, list[float]] = {name: [] for name in ways}
        begun = time.perf_counter()
        for done in range(rounds):
            if done and time.perf_counter() - begun > SECONDS:
                break  # the machine is busy
            for name, way in ways.items():
                taken[name].append(len(paths) / way())
        lines = len(result.read_text(encoding="utf-8").splitlines())
        assert lines == len(paths) + 1, f"{lines} lines for {len(paths)} images"
        return taken


def _engine_alone(weights: Path, paths: list[Path]) -> float:
    classifier = open_classifier(weights, EngineRequest(batch=BATCH))
    pixels = np.stack([classifier.pixels(path) for path in islice(paths, BATCH)])
    classifier.logits(pixels)
    start = time.perf_counter()
    for _ in range(len(paths) // BATCH):
        classifier.logits(pixels)
    return (time.perf_counter() - start) * len(paths) / (len(paths) // BATCH * BATCH)


def _decoding_alone(weights: Path, paths: list[Path]) -> float:
    classifier = open_classifier(weights, EngineRequest(batch=BATCH))
    start = time.perf_counter()
    with ThreadPoolExecutor(processor().cores) as pool:
        for _ in pool.map(classifier.pixels, paths):
            pass
    return time.perf_counter() - start


def _loop(sample: Path) -> float:
    """Seconds of a peer's loop without the start of its process and without its imports."""
    words = [sys.executable, str(Path(__file__).with_name("inference_loop.py")), str(sample)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout)
