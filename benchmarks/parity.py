"""Every engine and two exported formats against the network itself, on real photographs.

    python benchmarks/parity.py FOLDER [FOLDER ...] [--images 100]

- Engines: seven networks, each by the four engines in fp32, and in bf16 where the processor
  multiplies it, against eager PyTorch in fp32 on the same images.
- Exports: the same networks as ONNX and OpenVINO files with preprocessing, run by ONNX Runtime and
  OpenVINO in a process that cannot import torch or forebear.

The weights are random, with activations spread as in trained networks: two classes of an image are
nearer to each other than in a trained network, so equal classes are harder to reach. Images are
taken evenly from the folders. Needs onnx, onnxruntime and openvino; writes results/parity.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference import NETWORKS, table, versions
from inference_contenders import random_network
from step_speed import machine

import forebear
from forebear.engines.classifier import Classifier
from forebear.engines.compare import Difference, difference
from forebear.engines.engine import EngineRequest
from forebear.engines.open import opened_network
from forebear.hardware import processor
from forebear.tasks.export.export import export
from forebear.tasks.export.formats import Options

RESULTS = Path(__file__).parent / "results" / "parity.md"
ENGINES = {
    "torch": ("fp32", "bf16"),
    "compile": ("fp32", "bf16"),
    "onnxruntime": ("fp32",),
    "openvino": ("fp32", "bf16"),
}
BATCH = 10
# What a program without torch runs: a file, pixels as .npy, logits as .npy.
ALONE = """
import sys
for name in ("torch", "forebear"):
    sys.modules[name] = None  # an import of it fails
import numpy as np
file, pixels, logits = sys.argv[1:]
pixels = np.load(pixels)
if file.endswith(".onnx"):
    import onnxruntime
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0].name
    run = lambda one: session.run(None, {taken: one})[0]
else:
    import openvino
    model = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    run = lambda one: model(one)[0]
np.save(logits, np.concatenate([run(one[None]) for one in pixels]))
"""


def photographs(folders: Iterable[Path], count: int) -> list[Path]:
    """Returns `count` images, as many from each folder, evenly over its sorted files."""
    each = [
        sorted(one for one in folder.rglob("*") if one.suffix.lower() in (".jpg", ".jpeg", ".png"))
        for folder in folders
    ]
    share = count // len(each)
    return [files[number * len(files) // share] for files in each for number in range(share)]


def logits_of(classifier: Classifier, pixels: Any) -> Any:
    parts = np.split(pixels, range(BATCH, len(pixels), BATCH))
    return np.concatenate([classifier.logits(part) for part in parts])


def wanted_of(network: forebear.Network, files: list[Path]) -> Any:
    """Returns the logits of eager PyTorch in fp32, by the network's own preprocessing."""
    found = []
    with torch.inference_mode():
        for number in range(0, len(files), BATCH):
            batch = network.preprocess([str(file) for file in files[number : number + BATCH]])
            found.append(network(batch).numpy())
    return np.concatenate(found)


def engines_of(network: forebear.Network, files: list[Path]) -> Iterator[list[str]]:
    """Yields a row for each engine and precision."""
    wanted = wanted_of(network, files)
    for engine, precisions in ENGINES.items():
        for precision in precisions:
            if precision == "bf16" and not processor().bf16:
                continue
            request = EngineRequest(engine=engine, precision=precision, batch=BATCH)  # type: ignore[arg-type]
            classifier = opened_network(network, request)
            pixels = np.stack([classifier.pixels(str(file)) for file in files])
            found = difference(logits_of(classifier, pixels), wanted)
            yield [engine, precision, *_cells(found)]


def exports_of(network: forebear.Network, files: list[Path], place: Path) -> Iterator[list[str]]:
    """Yields a row for each format: the size of its files, and how near its logits are."""
    wanted = wanted_of(network, files)
    classifier = opened_network(network, EngineRequest(engine="torch", precision="fp32"))
    np.save(place / "pixels.npy", np.stack([classifier.pixels(str(file)) for file in files]))
    for to, ending in (("onnx", ".onnx"), ("openvino", ".xml")):
        file = place / f"network{ending}"
        export(network, to, file, Options(pixels=True), replace=True)
        size = sum(one.stat().st_size for one in place.glob("network.*") if _of(one, file))
        given = (file, place / "pixels.npy", place / "logits.npy")
        words = [sys.executable, "-c", ALONE, *map(str, given)]
        subprocess.run(words, check=True, env={"PATH": os.environ["PATH"]})
        found = difference(np.load(place / "logits.npy"), wanted)
        yield [to, f"{size / 1e6:.1f} MB", *_cells(found)]


def _of(one: Path, file: Path) -> bool:
    """Whether a file belongs to an exported one: OpenVINO keeps the weights in a .bin beside it."""
    return one == file or (file.suffix == ".xml" and one.suffix == ".bin")


def _cells(found: Difference) -> list[str]:
    return [f"{found.largest:.1e}", f"{found.same_class} of {found.images}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=NETWORKS)
    args = parser.parse_args()
    files = photographs(args.folders, args.images)
    engines: list[list[str]] = []
    exports: list[list[str]] = []
    for name in args.only:
        network = random_network(name)
        engines += [[name, *row] for row in engines_of(network, files)]
        with tempfile.TemporaryDirectory() as place:
            exports += [[name, *row] for row in exports_of(network, files, Path(place))]
        print(name, flush=True)
    head = ("difference", "same class")
    by_engine = "\n".join(table(("network", "engine", "precision", *head), engines))
    by_format = "\n".join(table(("network", "format", "size", *head), exports))
    text = f"""# Equal results on photographs

`python benchmarks/parity.py`, {date.today().isoformat()}, {machine()}; {versions()}.
{len(files)} photographs; random weights. The difference is the largest of a logit, relative to the
largest logit, from eager PyTorch in fp32.

## Engines

{by_engine}

## Exported files, run without torch and without forebear

{by_format}
"""
    RESULTS.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
