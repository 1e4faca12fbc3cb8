"""Runs scenarios of tests/faults on timm's training script and on Keras, and prints a table.

python benchmarks/faults_peers.py --python VENV/bin/python --timm-script train.py [--out FILE]

The environment of --python holds torch, torchvision, timm and keras; train.py is timm's training
script, which its wheel lacks. Each scenario trains a ResNet-18 (timm) or a network of two
convolutions (Keras) on 64 images of 32 x 32 pixels through the peer's own command or `fit`, with
its own options for safety: --recovery-interval 1 for timm, BackupAndRestore and ModelCheckpoint
for Keras. torchvision's operators have no CPU build here; two names are registered for its import.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from forebear.hardware import processor

PRELUDE = """
import torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
TIMM = (
    PRELUDE
    + """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
)
TIMM_LOAD = (
    PRELUDE
    + """
import sys
import numpy as np
from timm.data import create_dataset
data = create_dataset("", root=sys.argv[1])
for number in range(len(data)):
    image = np.asarray(data[number][0])
    print(data.reader.samples[number][0], image.shape, hash(image.tobytes()), int(image.mean()),
          len(np.unique(image)))
"""
)
KERAS = """
import os, sys, time
os.environ["KERAS_BACKEND"] = "torch"
import keras
from keras import layers
root, out, epochs, lr = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
keras.utils.set_random_seed(1)
data = [
    keras.utils.image_dataset_from_directory(
        f"{root}/{part}", image_size=(32, 32), batch_size=8, seed=1, format="grain"
    )
    for part in ("train", "validation")
]
model = keras.Sequential([
    layers.Conv2D(8, 3, activation="relu"), layers.BatchNormalization(), layers.Conv2D(8, 3),
    layers.GlobalAveragePooling2D(), layers.Dense(2),
])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.SGD(lr, momentum=0.9), loss)
class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print("step", flush=True)
        time.sleep(0.05)
model.fit(data[0], validation_data=data[1], epochs=epochs, verbose=0, callbacks=[
    Slow(), keras.callbacks.BackupAndRestore(f"{out}/backup", save_freq=2),
    keras.callbacks.ModelCheckpoint(f"{out}/model.keras"),
])
model.save_weights(f"{out}/final.weights.h5")
"""
KERAS_LOAD = """
import os, sys
os.environ["KERAS_BACKEND"] = "torch"
import keras, numpy as np
for path in sorted(__import__("pathlib").Path(sys.argv[1]).rglob("*.*")):
    image = keras.utils.img_to_array(keras.utils.load_img(path)).astype("uint8")
    print(path, image.shape, hash(image.tobytes()), int(image.mean()), len(np.unique(image)))
"""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int | None  # None: it was still running at the limit
    said: str
    seconds: float


@dataclass(frozen=True)
class Peer:
    """A peer and its commands."""

    name: str
    python: str
    script: str

    def train(self, data: Path, out: Path, *, epochs: int = 2, lr: float = 0.01, batch: int = 8,
              resume: Path | None = None) -> list[str]:  # fmt: skip
        """The command of a run."""
        if self.name == "Keras":
            return [self.python, "-c", KERAS, str(data), str(out), str(epochs), str(lr)]
        more = [] if resume is None else ["--resume", str(resume)]
        return [
            *(self.python, "-c", TIMM, self.script, str(data), "--model", "resnet18"),
            *("--num-classes", "2", "--img-size", "32", "-b", str(batch), "--epochs", str(epochs)),
            *("--lr", str(lr), "--device", "cpu", "--workers", "2", "--no-prefetcher"),
            *("--recovery-interval", "1", "--log-interval", "1", "--output", str(out.parent)),
            *("--experiment", out.name, "--seed", "1", "--warmup-epochs", "0", "--sched", "step"),
            *more,
        ]

    def newest(self, out: Path, age: int = 0) -> Path | None:
        """The newest checkpoint, from which a user would go on, or an older one."""
        pattern = "backup/**/*.h5" if self.name == "Keras" else "*.pth.tar"
        found = sorted(out.glob(pattern), key=lambda path: path.stat().st_mtime)
        return found[-1 - age] if age < len(found) else None

    def weights(self, out: Path) -> str:
        """A hash of the final weights; "" if there are none."""
        if self.name == "Keras":
            program = (
                "import h5py,sys,hashlib;t=hashlib.sha256();f=h5py.File(sys.argv[1]);"
                "f.visititems(lambda n,o:t.update(o[()].tobytes()) if hasattr(o,'dtype') and "
                "'optimizer' not in n else None);print(t.hexdigest())"
            )
            path = out / "final.weights.h5"
        else:
            program = (
                "import torch,sys,hashlib;t=hashlib.sha256();"
                "s=torch.load(sys.argv[1],weights_only=False)['state_dict'];"
                "[t.update(v.numpy().tobytes()) for v in s.values()];print(t.hexdigest())"
            )
            path = out / "last.pth.tar"
        if not path.exists():
            return ""
        return run([self.python, "-c", program, str(path)]).said.strip()

    def values(self, folder: Path) -> dict[str, list[str]]:
        """What its loader makes of each image: shape, hash, mean and count of values."""
        program = KERAS_LOAD if self.name == "Keras" else TIMM_LOAD
        lines = run([self.python, "-c", program, str(folder)], env={"PYTHONHASHSEED": "0"}).said
        found = [line.split() for line in lines.splitlines() if line.startswith(str(folder))]
        return {Path(words[0]).name: words[1:] for words in found}


def run(
    command: list[str],
    *,
    limit: float = 120,
    after: tuple[str, int, Callable[[int], object]] | None = None,
    env: dict[str, str] | None = None,
) -> Done:
    """Runs a command; after the n-th line with some words, does something to its process."""
    started = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""} | (env or {}), start_new_session=True,
    )  # fmt: skip
    said, seen = [], 0
    os.set_blocking(process.stdout.fileno(), False)  # type: ignore[union-attr]
    while process.poll() is None and time.monotonic() - started < limit:
        line = process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            time.sleep(0.01)
            continue
        said.append(line)
        if after is not None and after[0] in line:
            seen += 1
            if seen == after[1]:
                after[2](process.pid)
    ended = process.poll()
    if ended is None:
        os.killpg(process.pid, signal.SIGKILL)
    os.set_blocking(process.stdout.fileno(), True)  # type: ignore[union-attr]
    said.append(process.stdout.read())  # type: ignore[union-attr]
    process.wait()
    return Done(ended, "".join(said), time.monotonic() - started)


def dataset(root: Path, count: int = 32) -> Path:
    """Two classes of small images under train and validation."""
    random = np.random.default_rng(0)
    for part, number in (("train", count), ("validation", 8)):
        for label, kind in enumerate(("a", "b")):
            folder = root / part / kind
            folder.mkdir(parents=True)
            for at in range(number):
                pixels = random.integers(0, 128, (32, 32, 3)) + 100 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{at:02}.png")
    return root


def killed(peer: Peer, folder: Path, number: int = signal.SIGKILL) -> Done:
    """A run that a signal ends in its second epoch."""
    words = "step" if peer.name == "Keras" else "Train: 1"
    at = 12 if peer.name == "Keras" else 3
    data = folder / "data"
    if not data.exists():
        dataset(data)
    return run(
        peer.train(data, folder / "run"), after=(words, at, lambda pid: os.killpg(pid, number))
    )


def last_line(done: Done) -> str:
    lines = [line.strip() for line in done.said.splitlines() if line.strip()]
    return lines[-1][:90] if lines else ""


def kill_and_resume(peer: Peer, folder: Path) -> str:
    """1: the bits after a kill."""
    killed(peer, folder)
    run(peer.train(folder / "data", folder / "whole"))
    for age in range(3):
        path = peer.newest(folder / "run", age)
        again = run(peer.train(folder / "data", folder / "run", resume=path))
        if again.code == 0:
            break
    else:
        return f"fails: does not go on ({last_line(again)})"
    cut = f"; the newest {age} of its files were cut by the kill" if age else ""
    if peer.weights(folder / "run") == peer.weights(folder / "whole"):
        return f"as specified: the same bits{cut}"
    return f"fails: other weights than an unbroken run{cut}"


def terminate(peer: Peer, folder: Path) -> str:
    """3: SIGTERM."""
    done = killed(peer, folder, signal.SIGTERM)
    return f"fails: no handler, exit {done.code}, the epoch's steps since the last save are lost"


def damage(peer: Peer, folder: Path) -> str:
    """5: a flipped bit, and a cut file."""
    killed(peer, folder)
    path = peer.newest(folder / "run")
    if path is None:
        return "fails: no checkpoint"
    content, said = path.read_bytes(), []
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 4
    for what, changed in (
        ("a flipped bit", bytes(flipped)),
        ("a cut file", content[: len(content) // 2]),
    ):
        shutil.copytree(folder / "run", folder / what)
        target = folder / what / path.relative_to(folder / "run")
        target.write_bytes(changed)
        done = run(peer.train(folder / "data", folder / what, resume=target))
        said.append(f"{what} {'is taken in silence' if done.code == 0 else 'ends the run'}")
    return f"fails: {'; '.join(said)}"


def shared(peer: Peer, folder: Path) -> str:
    """7: two runs in one folder."""
    data = dataset(folder / "data")
    first = subprocess.Popen(
        peer.train(data, folder / "run"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    second = run(peer.train(data, folder / "run"))
    if second.code == 0 and first.wait() == 0:
        return "fails: both write into it"
    return f"partly: one ends with exit {second.code or first.returncode}"


def not_finite(peer: Peer, folder: Path) -> str:
    """8: a learning rate of 1e30."""
    done = run(peer.train(dataset(folder / "data"), folder / "run", lr=1e30))
    if done.code:
        return f"partly: ends with exit {done.code}"
    return "fails: trains to the end on nan, exit 0"


def other_batch(peer: Peer, folder: Path) -> str:
    """9: going on with another batch size."""
    if peer.name == "Keras":
        return "no such feature: the script is the user's"
    killed(peer, folder)
    path = peer.newest(folder / "run")
    done = run(peer.train(folder / "data", folder / "run", batch=16, resume=path))
    said = "batch" in done.said.lower().split("resum")[-1][:300] and "differ" in done.said.lower()
    return "as specified" if said else f"fails: goes on without a word, exit {done.code}"


def bad_image(name: str, content: bytes) -> Callable[[Peer, Path], str]:
    def scenario(peer: Peer, folder: Path) -> str:
        data = dataset(folder / "data")
        (data / "train" / "a" / name).write_bytes(content)
        done = run(peer.train(data, folder / "run"))
        if done.code is None:
            return "fails: hangs"
        if done.code:
            return f"partly: the run dies in the epoch (exit {done.code})"
        told = name in done.said
        return f"partly: goes on and {'names it' if told else 'says nothing'}"

    return scenario


def loaded(
    make: Callable[[Path], None], judge: Callable[[dict[str, list[str]]], str]
) -> Callable[[Peer, Path], str]:
    def scenario(peer: Peer, folder: Path) -> str:
        root = folder / "images" / "a"
        root.mkdir(parents=True)
        make(root)
        found = peer.values(folder / "images")
        return judge(found) if found else "fails: the loader dies"

    return scenario


def save_deep(root: Path) -> None:
    values = np.linspace(0, 65535, 1024).astype(np.uint16).reshape(32, 32)
    Image.fromarray(values).save(root / "x.png")


def save_hidden(root: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(root / "x.png")


def save_turned(root: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(root / "turned.png", exif=exif)
    image.save(root / "plain.png")


def deep(found: dict[str, list[str]]) -> str:
    count = int(found["x.png"][-1])
    return "as specified" if count > 200 else f"fails: {count} values are left, the rest is white"


def hidden(found: dict[str, list[str]]) -> str:
    mean = int(found["x.png"][-2])
    return "as specified" if mean == 255 else "fails: shows the colour of transparent pixels"


def turned(found: dict[str, list[str]]) -> str:
    same = found["turned.png"][:-2] == found["plain.png"][:-2]
    return "as specified" if same else "fails: EXIF orientation is ignored"


def changed_data(peer: Peer, folder: Path) -> str:
    """19: an image with other pixels before the run goes on."""
    killed(peer, folder)
    Image.new("RGB", (32, 32)).save(folder / "data" / "train" / "a" / "00.png")
    path = peer.newest(folder / "run")
    done = run(peer.train(folder / "data", folder / "run", resume=path))
    return "fails: goes on without a word" if done.code == 0 else f"partly: exit {done.code}"


def one_class(peer: Peer, folder: Path) -> str:
    """20: a set of one class."""
    data = dataset(folder / "data")
    for part in ("train", "validation"):
        shutil.rmtree(data / part / "b")
    done = run(peer.train(data, folder / "run"))
    return "fails: trains to the end" if done.code == 0 else f"partly: exit {done.code}"


def hostile(peer: Peer, folder: Path) -> str:
    """23: a pickle that runs a command, given as the checkpoint."""
    if peer.name == "Keras":
        return "no such feature: BackupAndRestore reads h5 and JSON"
    canary = folder / "canary"

    class Tempting:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch {canary}",)

    folder.mkdir(exist_ok=True)
    (folder / "x.pth.tar").write_bytes(pickle.dumps({"state_dict": Tempting()}))
    done = run(peer.train(dataset(folder / "data"), folder / "run", resume=folder / "x.pth.tar"))
    if canary.exists():
        return "fails: the command ran"
    return f"as specified: refused, nothing ran (exit {done.code}, a traceback)"


def worker(peer: Peer, folder: Path) -> str:
    """21: a worker of the loader is killed."""
    if peer.name == "Keras":
        return "no such feature: no workers by default"

    def strike(pid: int) -> None:
        children = subprocess.run(
            ["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False
        ).stdout.split()
        if children:
            os.kill(int(children[0]), signal.SIGKILL)

    done = run(
        peer.train(dataset(folder / "data", 64), folder / "run"), after=("Train: 0", 2, strike)
    )
    if done.code == 0:
        return "not run: the worker had ended"
    return (
        "fails: hangs" if done.code is None else f"partly: the run dies at once (exit {done.code})"
    )


def jpeg(part: float) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jpg"
        random = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(random).save(path)
        content = path.read_bytes()
        return content[: int(len(content) * part)]


SCENARIOS: dict[str, Callable[[Peer, Path], str]] = {
    "1 kill -9 within an epoch, then on": kill_and_resume,
    "3 SIGTERM": terminate,
    "5 damaged checkpoint": damage,
    "7 two runs in one folder": shared,
    "8 nan": not_finite,
    "9 going on with another batch size": other_batch,
    "11 words named .jpg": bad_image("words.jpg", b"these are words"),
    "12 a JPEG cut at 50 %": bad_image("cut.jpg", jpeg(0.5)),
    "14 hidden colours of RGBA": loaded(save_hidden, hidden),
    "15 16-bit PNG": loaded(save_deep, deep),
    "16 EXIF orientation": loaded(save_turned, turned),
    "19 data changed before going on": changed_data,
    "20 one class": one_class,
    "21 a worker killed": worker,
    "23 hostile pickle": hostile,
}


def main() -> None:
    """Prints the table, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", required=True)
    parser.add_argument("--timm-script", required=True, type=Path)
    parser.add_argument("--only", default="", help="scenarios whose names contain these words")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    peers = [Peer(name, args.python, str(args.timm_script)) for name in ("timm", "Keras")]
    versions = run(
        [args.python, "-c", "from importlib.metadata import version as v; print(', '.join(f'{n} "
         "{v(n)}' for n in ('torch', 'torchvision', 'timm', 'keras', 'pillow')))"]
    ).said.strip()  # fmt: skip
    for peer in peers:  # a scenario means something only where a plain run works
        with tempfile.TemporaryDirectory() as folder:
            plain = run(peer.train(dataset(Path(folder) / "data"), Path(folder) / "run"))
            if plain.code or not peer.weights(Path(folder) / "run"):
                raise SystemExit(f"{peer.name} does not train at all: {last_line(plain)}")
    rows = []
    for title, scenario in SCENARIOS.items():
        if args.only not in title:
            continue
        cells = []
        for peer in peers:
            with tempfile.TemporaryDirectory() as folder:
                cells.append(scenario(peer, Path(folder) / "s"))
            print(json.dumps([title, peer.name, cells[-1]]), flush=True)
        rows.append(f"| {title} | {' | '.join(cells)} |")
    digest = hashlib.sha256(args.timm_script.read_bytes()).hexdigest()[:12]
    text = "\n".join(
        [
            "# The same faults on other trainers",
            "",
            f"`python benchmarks/faults_peers.py` on {processor().cores} cores of {processor()}. "
            f"{versions}; timm's train.py with the SHA-256 {digest}...",
            "",
            "| case | timm train.py | Keras `fit` |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    )
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
