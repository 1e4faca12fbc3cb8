"""Kills training runs with SIGKILL, goes on with them, and compares every bit with whole runs.

python benchmarks/kills.py [--random 30] [--saving 10] [--out benchmarks/results/kills.md]

Each trial trains a tiny network through the real command line, in a process forked off this one so
that torch is imported once. Random trials are killed some milliseconds after a random step has
begun, the others at a set point of a save: while bytes are written, before and after the flush, the
renaming and the rotation. Every third one is killed once more after it has gone on. Nothing in the
library knows of this: the children count their steps, and stand still, by patches made here.
Images are not kept, so that each step decodes its own, with as many threads as --workers says.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import platform
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import safetensors
import torch
from PIL import Image

import forebear
import forebear.files
from forebear.cli.main import main
from forebear.data.pixel_store import PixelStore
from forebear.hardware import processor
from forebear.tasks.train.events import Event, StepStart, observe
from forebear.tasks.train.resume import checkpoint
from forebear.weights.native_format import digest, load_file

TABLE = """
name = "tiny"
form = "basic"
image_size = 16
[[root]]
kind = "conv"
name = "conv1"
channels = 32
kernel = 3
[[blocks]]
name = "block1"
units = 1
width = 32
channels = 32
[[blocks]]
name = "block2"
units = 1
width = 16
channels = 16
stride = 2
"""
STEPS, EPOCHS, EVERY = 10, 4, 3  # steps an epoch, epochs, steps between two saves
RECIPE = (
    "crop=resized", "crop_scale=[0.4, 1.0]", "mirror=random", "mixup=0.2", "ema=0.9",
    "batch_norm=own", "label_smoothing=0.1", "eval_size=16", "seed=3",
)  # fmt: skip
OPTIMIZERS = ("muon", "sgd")
WORKERS = (0, 2)
# Where a save stands still to be killed: shares of the bytes, then what follows them
POINTS = (
    0.0, 0.1, 0.5, 0.9, "before the flush", "before the renaming", "after the renaming",
    "before the rotation", "in the rotation", "after the rotation",
)  # fmt: skip
LONGEST = 120.0  # seconds that a child may take


@dataclass(slots=True)
class Trial:
    """What became of one run that was killed."""

    what: str
    workers: int
    optimizer: str
    identical: bool = False
    lost_bytes: int = 0  # of checkpoints that had been renamed into place
    kept: int = 0  # the fewest whole checkpoints after a kill, less those that there should be
    kills: int = 0
    steps: list[int] = field(default_factory=list)  # to be done again, a kill
    seconds: list[float] = field(default_factory=list)  # since the last whole checkpoint, a kill


@dataclass(frozen=True, slots=True)
class Kill:
    """When a child is killed."""

    step: int = 0  # that it has begun
    delay: float = 0.0  # seconds after that
    point: float | str | None = None  # of the save that follows, in place of the delay


class Shared:
    """Two numbers that a child writes and its parent reads: the step, and whether it waits."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 2)
        self.memory[:] = b"\0\0"

    @property
    def step(self) -> int:
        return self.memory[0]

    @property
    def waits(self) -> bool:
        return bool(self.memory[1])

    def note(self, event: Event) -> None:
        """Takes in the step that begins."""
        if isinstance(event, StepStart):
            self.memory[0] = event.step

    def stand_still(self) -> None:
        self.memory[1] = 1
        time.sleep(LONGEST)


def images(folder: Path) -> None:
    """Three classes, of which 85 % are STEPS batches of 8."""
    numbers = np.random.default_rng(0)
    count = round(STEPS * 8 / 0.85 / 3)
    for kind, name in enumerate(("across", "down", "grey")):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            wave = 90 * np.sign(np.sin(np.arange(24) * np.pi / 3 + numbers.uniform(0, 6)))
            stripes = (wave[:, None, None], wave[None, :, None], np.zeros((1, 1, 1)))[kind]
            values = 128 + stripes + numbers.normal(0, 20, (24, 24, 3))
            image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
            image.save(folder / name / f"{number}.png")


def train(place: Path, out: Path, workers: int, optimizer: str) -> list[str]:
    """The words of a run."""
    sets = (*RECIPE, f"optimizer={optimizer}", f"lr={0.02 if optimizer == 'muon' else 0.05}")
    return [
        "train", "--data", f"folder:{place / 'data'}", "--network", str(place / "tiny.toml"),
        "--dialect", "torchvision", "--out", str(out), "--size", "16", "--batch", "8",
        "--epochs", str(EPOCHS), "--save-every", str(EVERY),
        "--deterministic", "--threads", "1",
        "--workers", str(workers), *(word for one in sets for word in ("--set", one)),
    ]  # fmt: skip


def resume(out: Path) -> list[str]:
    return ["train", "--resume", str(out), "--threads", "1"]


def child(words: list[str], log: Path, shared: Shared, kill: Kill | None) -> int:
    """Forks a child that runs forebear; its process number."""
    sys.stdout.flush()
    number = os.fork()
    if number:
        return number
    with log.open("ab", buffering=0) as file:  # never left: the child ends within
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            _patch(shared, kill)
            with observe(shared.note):
                os._exit(main(words))
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(70)


def _patch(shared: Shared, kill: Kill | None) -> None:
    kept: dict[str, Any] = PixelStore.__init__.__kwdefaults__
    kept["memory"] = kept["disk"] = 0  # every step decodes its images
    if kill is not None and kill.point is not None:
        _stand_still(shared, kill.step, kill.point)


def _stand_still(shared: Shared, after: int, point: float | str) -> None:
    """Patches the save of a checkpoint so that it waits at a point, to be killed there."""

    def here(name: str) -> None:
        if shared.step >= after and name == point:
            shared.stand_still()

    def before(name: str, call: Callable[..., Any], then: str = "") -> Callable[..., Any]:
        def waits(*args: Any, **kwargs: Any) -> Any:
            here(name)
            result = call(*args, **kwargs)
            here(then)
            return result

        return waits

    if isinstance(point, float):
        save = checkpoint.save_file

        def slow(tensors: Any, path: Path, metadata: Any) -> None:
            save(tensors, path, metadata)
            if shared.step >= after:
                os.truncate(path, round(point * path.stat().st_size))
                shared.stand_still()

        checkpoint.save_file = slow
        return
    whole = forebear.files.write_whole

    def saved(path: Path, write: Callable[[Path], None]) -> None:
        with contextlib.ExitStack() as stack:
            for owner, name, words in (
                (os, "fsync", ("before the flush", "")),
                (Path, "replace", ("before the renaming", "after the renaming")),
            ):
                call = getattr(owner, name)
                stack.callback(setattr, owner, name, call)
                setattr(owner, name, before(words[0], call, words[1]))
            whole(path, write)
        here("before the rotation")

    checkpoint.write_whole = saved
    save_checkpoint, unlink = checkpoint.save_checkpoint, Path.unlink
    work = sys.modules["forebear.tasks.train.recorder"]

    def rotated(folder: Path, *args: Any) -> Path:
        Path.unlink = before("", unlink, "in the rotation")  # type: ignore[method-assign]
        path: Path = save_checkpoint(folder, *args)
        Path.unlink = unlink  # type: ignore[method-assign]
        here("after the rotation")
        return path

    work.save_checkpoint = rotated  # type: ignore[attr-defined]


def until(number: int, shared: Shared, kill: Kill | None) -> tuple[int | None, int]:
    """Waits for a child's end, or kills it; its exit code (None: killed), and the step it was in.

    Raises:
        TimeoutError: it took too long.
    """
    started = time.perf_counter()
    while time.perf_counter() - started < LONGEST:
        done, status = os.waitpid(number, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), shared.step
        if kill is not None and (shared.waits if kill.point is not None else _due(shared, kill)):
            os.kill(number, signal.SIGKILL)
            _, status = os.waitpid(number, 0)
            code = os.waitstatus_to_exitcode(status)
            return (None if code == -signal.SIGKILL else code), shared.step
        time.sleep(0.0005)
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
    raise TimeoutError(f"process {number} took more than {LONGEST:g} s at step {shared.step}")


def _due(shared: Shared, kill: Kill) -> bool:
    if shared.step < kill.step:
        return False
    time.sleep(kill.delay)
    return True


def carry_out(words: list[str], log: Path, kill: Kill | None = None) -> tuple[int | None, int]:
    shared = Shared()
    return until(child(words, log, shared, kill), shared, kill)


def marks(out: Path) -> tuple[str, list[dict[str, str]]]:
    """SHA-256 of the final weights, and every number of the metrics that no clock enters."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    names = ("epoch", "step", "lr", "loss", "accuracy", "val_loss", "val_accuracy", "skipped",
             "losses", "lrs")  # fmt: skip
    return digest(load_file(out / "model.safetensors").state_dict()), [
        {name: _hex(line[name]) for name in names} for line in lines
    ]


def _hex(value: Any) -> str:
    return " ".join(map(_hex, value)) if isinstance(value, list) else float(value).hex()


def whole_checkpoints(out: Path, trial: Trial) -> list[int]:
    """The steps of the checkpoints that lie there; counts the bytes of those that are damaged."""
    steps = []
    for path in checkpoint.checkpoints(out / "checkpoints"):
        try:
            steps.append(checkpoint.read_checkpoint(path)[1].step)
        except Exception as error:
            print(f"{path}: {error}", file=sys.stderr)
            trial.lost_bytes += path.stat().st_size
    return steps


def kills(numbers: random.Random, point: float | str | None, last: int) -> Iterator[Kill]:
    """One kill, and for every third trial another after it."""
    step = numbers.randint(1, last)
    if point is None:
        yield Kill(step, _delay(numbers, last - step))
    else:
        yield Kill(numbers.randint(0, last - EVERY), point=point)
    if numbers.random() < 1 / 3:
        again = numbers.randint(step, last)
        yield Kill(again, _delay(numbers, last - again))


def _delay(numbers: random.Random, left: int) -> float:
    """Seconds: within a step for the most part, else as long as evaluations and images take."""
    short = left < STEPS or numbers.random() < 2 / 3
    return numbers.uniform(0, 0.03 if short else 1.0)


def attempt(place: Path, trial: Trial, plan: list[Kill], expected: Any) -> Trial:
    """Trains, kills by plan, goes on to the end and compares."""
    out, log = place / "killed", place / "log"
    words, last = train(place, out, trial.workers, trial.optimizer), 0
    for kill in plan:
        code, step = carry_out(words, log, kill)
        words = resume(out)
        if code is not None:  # it ended before it could be killed
            last = code
            break
        trial.kills += 1
        if (out / "model.safetensors").exists():  # killed when all was written
            break
        now, steps = time.time(), whole_checkpoints(out, trial)
        if steps:
            trial.steps.append(max(0, step - max(steps)))
            newest = max((out / "checkpoints").glob("step-*"), key=lambda path: path.name)
            trial.seconds.append(max(0.0, now - newest.stat().st_mtime))
        saved = 1 + (step - 1) // EVERY if step else 0
        trial.kept = min(trial.kept, len(steps) - min(checkpoint.KEPT, saved))
    if not (out / "model.safetensors").exists():
        last, _ = carry_out(words, log)  # type: ignore[assignment]
    left = [path.name for path in out.rglob(".*") if path.name != ".lock"]  # nobody holds it
    if last == 0 and not left:
        trial.identical = marks(out) == expected
    if not trial.identical:
        print(f"{trial}\n{plan}\nexit code {last}, left {left}\n{log.read_text()}", file=sys.stderr)
    shutil.rmtree(out, ignore_errors=True)
    log.unlink(missing_ok=True)
    return trial


def references(place: Path) -> dict[str, Any]:
    """What uninterrupted runs give, by optimizer; all workers must agree.

    Raises:
        RuntimeError: they do not, or a run failed.
    """
    found: dict[str, Any] = {}
    for optimizer in OPTIMIZERS:
        for workers in WORKERS:
            out, log = place / f"{optimizer}-{workers}", place / "log"
            code, _ = carry_out(train(place, out, workers, optimizer), log)
            if code != 0:
                raise RuntimeError(log.read_text())
            if found.setdefault(optimizer, marks(out)) != marks(out):
                raise RuntimeError(f"{optimizer}: {workers} workers give other bits than 0")
    return found


def trials(place: Path, at_random: int, saving: int, seed: int = 0) -> list[Trial]:
    """All of them, one after the other; workers and optimizers in turn."""
    images(place / "data")
    (place / "tiny.toml").write_text(TABLE)
    expected, numbers, done = references(place), random.Random(seed), []
    last = next(iter(expected.values()))[1][-1]["step"]
    steps = round(float.fromhex(last))
    for number in range(at_random + saving):
        point = None if number < at_random else POINTS[(number - at_random) % len(POINTS)]
        workers, optimizer = WORKERS[number % 2], OPTIMIZERS[number // 2 % 2]
        what = "at random" if point is None else "while saving"
        trial = Trial(what, workers, optimizer)
        plan = list(kills(numbers, point, steps))
        done.append(attempt(place, trial, plan, expected[optimizer]))
        print(f"{number + 1:3}  {done[-1]}", file=sys.stderr)
    return done


def report(done: list[Trial], seconds: float) -> str:
    """Markdown."""
    rows = []
    for what in ("at random", "while saving"):
        for workers in WORKERS:
            some = [one for one in done if (one.what, one.workers) == (what, workers)]
            if not some:
                continue
            lost = [value for one in some for value in one.seconds] or [0.0]
            steps = [value for one in some for value in one.steps] or [0]
            same = sum(one.identical for one in some)
            rows.append(
                f"| {what} | {workers} | {len(some)} | {sum(one.kills for one in some)} | "
                f"{same} of {len(some)} | {sum(one.lost_bytes for one in some)} | "
                f"{statistics.mean(steps):.1f} / {max(steps)} | "
                f"{statistics.mean(lost):.2f} / {max(lost):.2f} |"
            )
    fewer = min(one.kept for one in done)
    return "\n".join(
        [
            "# Runs killed with SIGKILL and resumed",
            "",
            f"`python benchmarks/kills.py`: {EPOCHS} epochs of {STEPS} steps, --save-every "
            f"{EVERY}, --deterministic --threads 1; Muon and SGD with Nesterov's momentum in turn, "
            "an average of the weights, random crops, mirroring, mixup; images decoded in every "
            "step. A third of the runs are killed twice. Identical: the SHA-256 of the final "
            "weights, and every loss, accuracy and rate in metrics.jsonl to the last bit, are "
            "those of the run that nobody killed, and no temporary file is left. Bytes lost: of "
            "checkpoints that had been renamed into place. Seconds lost: from the last whole "
            "checkpoint to the kill.",
            "",
            "| killed | workers | runs | kills | identical | bytes lost | steps lost, mean / most "
            "| seconds lost, mean / most |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            "Whole checkpoints after a kill: "
            + (f"{-fewer} fewer than" if fewer < 0 else "never fewer than")
            + " the newest two that were saved.",
            f"{seconds:.0f} s in all; forebear {forebear.__version__}, torch {torch.__version__}, "
            f"numpy {np.__version__}, safetensors {safetensors.__version__}, Pillow "
            f"{PIL.__version__}, Python {platform.python_version()}, {platform.system()} "
            f"{processor()}, {processor().cores} cores.",
            "",
        ]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--random", type=int, default=30, metavar="N")
    parser.add_argument("--saving", type=int, default=10, metavar="N")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "kills.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        told = report(trials(Path(folder), given.random, given.saving), time.perf_counter() - begun)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(told)
    print(told)
