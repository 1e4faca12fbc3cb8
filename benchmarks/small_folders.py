"""The contest of small folders: which tool fine-tunes best in a few minutes, untuned?

python benchmarks/small_folders.py --peers PYTHON --work DIR [--base]
    [--sets NAME ...] [--counts N ...] [--minutes M ...] [--splits N ...] [--contenders NAME ...]

PYTHON is the interpreter of an environment with the peers:

    pip install torch==2.13.0 timm==1.0.28 scikit-learn==1.9.1 pandas matplotlib pyyaml scipy
    pip install --no-deps torchvision==0.28.0 fastai==2.8.12 ultralytics==8.4.190
    pip install fastcore fastprogress fastdownload plum-dispatch fasttransform cloudpickle \
        opencv-python-headless polars psutil ultralytics-thop beartype python-fasthtml \
        itsdangerous starlette python-multipart

`--base` trains the base weights first, if WORK has none: torchvision's ResNet-18 on five classes of
Imagenette, ten minutes. The targets are the other five classes (at 96 pixels), and CIFAR-10,
Fashion-MNIST and scikit-learn's digits (at 64 pixels, enlarged). small_sets/contender.py says what
each contender is; each cell is a process of its own with two threads. A finished cell is kept in
results/small_folders_rows.json, and the same command goes on where it was stopped.
Writes results/small_folders.md and small_folders.png.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from small_sets.data import SETS, SIZES, Sources, base_folder, make_set, make_split
from small_sets.table import Row, markdown, plot

from forebear.hardware import processor

HERE = Path(__file__).parent
RESULTS = HERE / "results"
CONTENDERS = ("forebear", "probe", "fastai", "ultralytics", "timm")
GRACE = 6.0  # times the budget, plus two minutes, after which a contender is stopped
LEFT_OUT = (
    "Keras' transfer-learning guide: keras.applications has no ResNet-18, so that it cannot start "
    "from the same base weights.",
    "timm's train.py: the script is not in the wheel. Its default fine-tuning, `--model resnet18 "
    "--pretrained --num-classes N`, is done through timm's API.",
    "ultralytics starts from the same base weights in its own ResNet-18 (yolo11-cls-resnet18), "
    "whose head has one more convolution. It refuses the digits, as images below 10 pixels.",
)


def train_base(work: Path, sources: Sources) -> None:
    """Trains the base weights, and writes them with torchvision's names."""
    run = work / "base-run"
    command = [sys.executable, "-m", "forebear"]
    data = base_folder(sources, work)
    train = ["--data", f"folder:{data}", "--network", "torchvision/resnet18", "--budget", "10m"]
    subprocess.run([*command, "train", *train, "--out", run, "--replace"], check=True)
    convert = [run / "model.safetensors", work / "base.pth", "--to", "torchvision"]
    subprocess.run([*command, "convert", *convert], check=True)


def run(
    name: str, set_folder: Path, split: Path, seed: int, minutes: float, args: argparse.Namespace
) -> tuple[float, float] | None:
    """Returns accuracy and seconds of a cell; None if the contender failed."""
    forebear = name == "forebear"
    python = sys.executable if forebear else args.peers
    # The contender of forebear runs from this checkout; peers must not see it.
    paths = os.pathsep.join([str(HERE), *([str(HERE.parent / "src")] if forebear else [])])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "cell.json"
        command = [
            python, "-m", "small_sets.contender", name, "--split", split, "--test",
            set_folder / "test", "--base", args.work / "base.pth", "--size",
            str(SIZES[set_folder.name]), "--seconds", str(60 * minutes), "--seed", str(seed),
            "--threads", str(args.threads), "--out", out,
        ]  # fmt: skip
        if set_folder.name == "digits":
            command.append("--no-flips")
        log = args.work / "logs" / f"{name}-{split.name}-{minutes:g}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as lines:
            try:
                subprocess.run(
                    command, env={**os.environ, "PYTHONPATH": paths}, cwd=folder, stdout=lines,
                    stderr=subprocess.STDOUT, check=True, timeout=GRACE * 60 * minutes + 120,
                )  # fmt: skip
            except subprocess.SubprocessError as error:
                print(f"  {name} failed ({type(error).__name__}), see {log}", flush=True)
                return None
        found = json.loads(out.read_text())
    return found["accuracy"], found["seconds"]


def todo(args: argparse.Namespace, done: list[Row]) -> Iterator[tuple[int, float, int, str, str]]:
    """Yields the cells that are left: split, minutes, count, set, contender."""
    known = {(row.split, row.minutes, row.count, row.set, row.contender) for row in done}
    wanted = (args.splits, args.minutes, args.counts, args.sets, args.contenders)
    yield from (cell for cell in itertools.product(*wanted) if cell not in known)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, help="the interpreter that has the peers")
    parser.add_argument("--work", type=Path, required=True, help="images and weights are kept here")
    parser.add_argument("--base", action="store_true", help="train the base weights first")
    parser.add_argument("--shared", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--counts", nargs="+", type=int, default=[50, 200, 1000])
    parser.add_argument("--minutes", nargs="+", type=float, default=[2.0])
    parser.add_argument("--splits", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.peers is None and set(args.contenders) - {"forebear"}:
        parser.error("--peers: expected the interpreter of an environment with the peers.")
    args.work = args.work.resolve()
    return args


def main() -> None:
    args = arguments()
    sources = Sources(args.shared, args.fashion)
    if args.base and not (args.work / "base.pth").exists():
        train_base(args.work, sources)
    path = args.out / "small_folders_rows.json"
    rows = [Row(**one) for one in json.loads(path.read_text())] if path.exists() else []
    for seed, minutes, count, name, contender in todo(args, rows):
        folder = make_set(name, sources, args.work)
        split = make_split(folder, count, seed)
        started = time.perf_counter()
        found = run(contender, folder, split, seed, minutes, args)
        taken = time.perf_counter() - started
        if found is None:
            continue
        rows.append(Row(contender, name, count, minutes, seed, *found, processor().name))
        path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
        print(f"{name} {count} {contender} {found[0]:.1%}, {taken:.0f} s", flush=True)
    if rows:
        (args.out / "small_folders.md").write_text(markdown(rows, CONTENDERS, LEFT_OUT))
        plot(rows, CONTENDERS, args.out / "small_folders.png")


if __name__ == "__main__":
    main()
