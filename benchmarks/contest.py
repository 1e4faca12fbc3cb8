"""What the contests share: images, runs of forebear, words on the machine, and result files.

Only the standard library is imported here, so that other environments' processes can read it too.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from step_speed import machine

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "runs" / "contests"


def options(doc: str) -> argparse.ArgumentParser:
    """A parser with what all contests take."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    shared, results = ROOT.parent / "shared" / "data", ROOT / "benchmarks" / "results"
    parser.add_argument("--data", type=Path, default=shared, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=results, metavar="FOLDER", help="of results")
    return parser


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run of forebear train."""

    folder: Path
    seconds: float  # of the whole process
    metrics: list[dict[str, Any]]  # its metrics.jsonl
    accuracy: float  # of model.safetensors on the validation images, 0 to 1
    precision: str

    @property
    def epochs(self) -> float:
        return float(self.metrics[-1]["epoch"])


def train(name: str, *words: object) -> Run:
    """Runs forebear train in a process of its own, into runs/contests/NAME."""
    folder = RUNS / name
    command = [sys.executable, "-m", "forebear", "train", *map(str, words)]
    seconds = run([*command, "--out", str(folder), "--replace"])[0]
    return replace(finished(folder), seconds=seconds)


def finished(folder: Path) -> Run:
    """The run of a folder; its seconds are those that its last line of metrics tells."""
    from forebear.weights.native_format import load_file

    lines = (folder / "metrics.jsonl").read_text().splitlines()
    settings = json.loads((folder / "settings.json").read_text())
    accuracy = load_file(folder / "model.safetensors").card.metrics["held_out_accuracy"]
    metrics = [json.loads(line) for line in lines]
    precision = settings["recipe"]["precision"]
    return Run(folder, metrics[-1]["seconds"], metrics, accuracy, precision)


def run(command: list[str]) -> tuple[float, Any]:
    """Seconds that a command took, and its last line if that is JSON; its errors are shown."""
    print("$", *command, file=sys.stderr, flush=True)
    begun = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.perf_counter() - begun
    last = done.stdout.strip().rpartition("\n")[2]
    return seconds, json.loads(last) if last.startswith("{") else None


def cifar(data: Path, images: int | None = None) -> dict[str, Any]:
    """The JPEG edition of CIFAR-10, decoded: x_train uint8 [N, 32, 32, 3], y_train and so on.

    Args:
        data: folder with cifar10-jpeg.
        images: of each part, the first ones; None: all.
    """
    import numpy as np

    from forebear.data.sources.registry import read_data

    read = read_data(f"parquet:{data / 'cifar10-jpeg'}")
    arrays: dict[str, Any] = {"classes": np.array(read.classes)}
    for name, part in (("train", read.train), ("test", read.val)):
        count = min(images or len(part), len(part))
        arrays[f"x_{name}"] = np.stack([np.asarray(part.image(at)) for at in range(count)])
        arrays[f"y_{name}"] = part.labels[:count]
    return arrays


def publish(file: Path, title: str, text: str, table: list[str]) -> None:
    """Writes a result as Markdown and prints it.

    Args:
        file: to write.
        title: of the page.
        text: what was done, in sentences.
        table: its lines.
    """
    from forebear.files import write_text

    made = f"Made by `{command()}` on {time.strftime('%Y-%m-%d')}: {machine()}; {versions()}."
    page = "\n".join([f"# {title}", "", made, "", text, "", *table, ""])
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, page)
    print(page)


def command() -> str:
    """This process' own, less where files lie on this machine."""
    words, places = [], ("--data", "--out", "--python", "--runs")
    option = ""
    for word in sys.argv[1:]:
        option = word.partition("=")[0] if word.startswith("--") else option
        if option not in places:
            words.append(word)
    return " ".join([f"python benchmarks/{Path(sys.argv[0]).name}", *words])


def versions() -> str:
    """Of Python and of what is installed here."""
    found = [f"Python {platform.python_version()}"]
    for name in ("forebear", "torch", "torchvision", "keras", "tensorflow", "numpy"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
