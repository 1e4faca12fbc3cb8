"""Cases 1 to 9: runs that are killed, stopped, starved of disk, damaged and changed."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import numpy as np

from peer_faults.bench import NO_FEATURE, Bench, Result, Variant, said
from peer_faults.children import Child, Limits, ask
from peer_faults.peers import Keras, Timm, TorchVision

ERRORS = r"error|exception|no space|too large|refus"


def kill(child: Child, number: int = signal.SIGKILL) -> None:
    child.kill_all() if number == signal.SIGKILL else os.kill(child.pid, number)


def kill_and_resume(bench: Bench, trials: int = 8) -> Result:
    """1: kill -9 in the middle of an epoch, resume, compare every bit of the final weights.

    Every other run saves after whole epochs only, as far as the peer has that choice.
    """
    whole, numbers, variants, off = bench.reference(), random.Random(1), [], []
    for number in range(trials):
        training = bench.training(more=bench.peer.by_epoch if number % 2 else ())
        before = bench.killed(training, numbers.randint(14, 20), kill)
        done = len(bench.peer.steps(before.log))
        after = bench.resume(training.out, more=training.more)
        steps = bench.peer.steps(after.log)
        same = bench.peer.fingerprint(bench.peer.final(training.out)) == whole
        start = f"goes on at epoch {steps[0].epoch}" if steps else "ends without another step"
        off.append(done + len(steps) - 24)
        how = "epochs" if number % 2 else "steps"
        remark = f"saves after {how}; killed in step {done} of 24; {start}; {off[-1]:+} steps"
        variants.append(Variant(f"step {done}", same and after.code == 0, remark))
    good = sum(bool(one.good) for one in variants)
    note = f"{good} of {trials} with the bits of the whole run; steps done in all against it: "
    note += ", ".join(f"{steps:+}" for steps in off)
    if first := _own_checkpoint_loads(bench):
        note += f"; {first}"
        variants.append(Variant("resumes from its own checkpoint as installed", False, first))
    return Result(note, variants)


def _own_checkpoint_loads(bench: Bench) -> str:
    """What --resume says of the peer's own checkpoint without the help that we give it."""
    if not isinstance(bench.peer, TorchVision):
        return ""
    os.environ["PEER_FAULTS_AS_IT_IS"] = "1"
    try:
        ended = bench.resume(bench.saved(1))
    finally:
        del os.environ["PEER_FAULTS_AS_IT_IS"]
    return (
        ""
        if ended.code == 0
        else "--resume refuses the script's own checkpoint: "
        + (
            "weights_only forbids argparse.Namespace (allowed by us for the other trials)"
            if "argparse.Namespace" in ended.log
            else ended.last_line
        )
    )


def _sizes(out: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for folder, _, names in os.walk(out):
        for name in names:
            try:
                stat = Path(folder, name).stat()
            except FileNotFoundError:
                continue
            if stat.st_size < 1_000_000 and not name.endswith((".h5", ".pth", ".tar", ".keras")):
                continue
            found[str(Path(folder, name))] = (stat.st_size, stat.st_mtime_ns)
    return found


def kill_while_saving(bench: Bench, trials: int = 12) -> Result:
    """2: kill -9 at moments after a file of a later save has begun to grow."""
    numbers, variants = random.Random(2), []
    for number in range(trials):
        training = bench.training(epochs=4)
        child = bench.start(training)
        child.until(
            lambda: bench.step_of(child) >= 12 and bool(bench.peer.checkpoints(training.out))
        )
        step = numbers.randint(12, 30)
        child.until(lambda: bench.step_of(child) >= step)
        before = _sizes(training.out)
        child.until(lambda: _sizes(training.out) != before)
        delay = numbers.uniform(0, 0.05) if number else 0.0
        time.sleep(delay)
        kill(child)
        done = bench.step_of(child)
        after = bench.resume(training.out, epochs=4)
        good = after.code == 0 and not bench.starts_anew(after)
        left = [p.name for p in training.out.rglob("*tmp*")]
        remark = f"{delay * 1000:.0f} ms into a save: " + (
            "goes on" if good else "starts anew in silence" if after.code == 0 else after.short
        )
        variants.append(Variant(f"step {done}", good, remark + (f", left {left}" if left else "")))
    lost = [one for one in variants if not one.good]
    note = f"{trials - len(lost)} of {trials} resume from the newest file as documented"
    if lost:
        note += f"; {lost[0].remark}"
    if isinstance(bench.peer, TorchVision):
        note += "; model_N.pth of an earlier epoch is left to fall back to by hand"
    return Result(note, variants)


def stop_signals(bench: Bench) -> Result:
    """3: SIGTERM and SIGINT: a checkpoint is written, 0 steps are lost, exit 143 or 130."""
    variants = []
    for number, expected in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        training = bench.training(epochs=4)
        moment = [0.0]

        def send(child: Child, number: int = number, moment: list[float] = moment) -> None:
            moment[0] = time.perf_counter()
            kill(child, number)

        ended = bench.killed(training, 18, send)
        took = time.perf_counter() - moment[0]
        done = len(bench.peer.steps(ended.log))
        code = 128 - ended.code if ended.code < 0 else ended.code
        after = bench.resume(training.out, epochs=4)
        again = bench.peer.steps(after.log)
        off = done + len(again) - 48
        good = code == expected and off == 0 and bool(again)
        remark = f"exit {code} after {took:.1f} s, {off:+} steps after a resume"
        variants.append(Variant(signal.Signals(number).name, good, remark))
    return Result("; ".join(f"{one.name}: {one.remark}" for one in variants), variants)


def full_disk(bench: Bench) -> Result:
    """4: a full disk and a limit of the file size during a save: old checkpoint intact, named."""
    variants = []
    for name in ("file-size limit", "full file system"):
        out = bench.saved(1)
        for path in [*out.rglob("*.bkp"), *out.glob("*.keras")]:  # what Keras writes over
            path.unlink()
        size = bench.peer.checkpoints(out)[0].stat().st_size
        if name == "file-size limit":
            found = _starved(bench, out, Limits(file_size=size // 2))
        else:
            mount = bench.fresh("mount")
            mount.mkdir()
            total = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
            room = f"size={total + size // 2}"
            made = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", room, "tmpfs", str(mount)], capture_output=True
            )
            if made.returncode:
                variants.append(Variant(name, None, "not run: no right to mount"))
                continue
            try:
                found = _starved(bench, Path(shutil.copytree(out, mount / "out")), Limits())
            finally:
                subprocess.run(["umount", str(mount)], check=False)
        for what, good, remark in found:
            variants.append(Variant(f"{name}: {what}", good, remark))
    return Result("; ".join(f"{one.name}: {one.remark}" for one in variants), variants)


def _starved(bench: Bench, out: Path, limits: Limits) -> list[tuple[str, bool, str]]:
    kept = bench.peer.checkpoints(out)[0]
    ended = bench.go(bench.training(out=out, resume=kept, epochs=3), limits)
    usable = [bench.peer.fingerprint(path) for path in bench.peer.checkpoints(out)]
    intact = bool(usable) and usable[0] is not None
    left = [path.name for path in out.rglob("*") if path.is_file() and "tmp" in path.name]
    broken = len(usable) - sum(map(bool, usable))
    told = said(ended, r"no space|too large|errno 2[78]|disk|quota")
    states = f"{broken} of {len(usable)} checkpoints broken, left {left or 'nothing'}"
    return [
        ("old one", intact, "loads" if intact else "lost"),
        ("exit and message", ended.code != 0 and bool(told), f"exit {ended.code}, {ended.short}"),
        ("nothing half-written", not left and not broken, states),
    ]


def _damage(path: Path, how: str, other: Path) -> None:
    held = bytearray(path.read_bytes())
    if how == "zero bytes":
        held = bytearray()
    elif how == "cut in half":
        held = held[: len(held) // 2]
    elif how == "one byte more":
        held += b"\0"
    elif how == "one bit flipped":
        held[len(held) // 2] ^= 64
    elif how == "garbage":
        held = bytearray(np.random.default_rng(0).bytes(len(held)))
    elif how == "another network's":
        held = bytearray(other.read_bytes())
    path.unlink()  # a hard link, in timm's folder
    path.write_bytes(held)


def damaged_checkpoints(bench: Bench) -> Result:
    """5: the newest checkpoint is damaged in six ways; noticed and named?"""
    other = bench.training(epochs=1, more=_other_network(bench))
    ended = bench.go(other)
    if ended.code:
        raise RuntimeError(ended.log)
    variants, back = [], 0
    for how in ("zero bytes", "cut in half", "one byte more", "one bit flipped", "garbage",
                "another network's"):  # fmt: skip
        out = bench.saved(1)
        newest = bench.peer.checkpoints(out)[0]
        _damage(newest, how, bench.peer.checkpoints(other.out)[0])
        readable = bench.peer.fingerprint(newest) is not None
        after = bench.resume(out)
        went_on = after.code == 0
        fallen = went_on and not readable and not bench.starts_anew(after)
        back += fallen
        remark = "falls back" if fallen else "loads in silence" if went_on else after.short
        variants.append(Variant(how, fallen or not went_on, remark))
    silent = [one.name for one in variants if not one.good]
    note = f"{6 - len(silent)} of 6 noticed" + (
        f"; in silence: {', '.join(silent)}" if silent else ""
    )
    note += "; falls back to the one before" if back else "; never falls back to an older one"
    return Result(note, variants)


def _other_network(bench: Bench) -> tuple[str, ...]:
    if isinstance(bench.peer, Keras):
        return ("--width", "16")
    return ("--model", "resnet34")


def rotation(bench: Bench, trials: int = 6) -> Result:
    """6: kills around the deletion of old checkpoints: never fewer than two whole ones."""
    if not isinstance(bench.peer, Timm):
        kept = (
            "every epoch is kept"
            if isinstance(bench.peer, TorchVision)
            else ("the newest two states and the best model are kept")
        )
        return Result(f"no option to keep the last k; {kept}", word=NO_FEATURE)
    variants, numbers = [], random.Random(6)
    for number in range(trials):
        training = bench.training(epochs=6)
        child = bench.start(training)
        run = training.out / "run"
        child.until(lambda: (run / "checkpoint-1.pth.tar").exists())
        child.until(lambda: bench.step_of(child) >= 36)  # the third save follows
        old = sorted(path.name for path in run.glob("checkpoint-*"))
        child.until(lambda: sorted(p.name for p in run.glob("checkpoint-*")) != old)
        time.sleep(numbers.uniform(0, 0.02) if number else 0)
        kill(child)
        whole = [p.name for p in run.glob("checkpoint-*") if bench.peer.fingerprint(p)]
        best = bench.peer.fingerprint(run / "model_best.pth.tar") is not None
        last = bench.peer.fingerprint(run / "last.pth.tar") is not None
        remark = f"{len(whole)} of 2 numbered, best {best}, last {last}"
        variants.append(Variant(str(number), len(whole) >= 2 and best and last, remark))
    good = sum(bool(one.good) for one in variants)
    worst = next((one.remark for one in variants if not one.good), variants[0].remark)
    return Result(f"{good} of {trials} kills leave all; e.g. {worst}", variants)


def output_folders(bench: Bench) -> Result:
    """7: an output folder that is read-only, a file, or in use by another run."""
    variants = []
    for name in ("read-only", "a file"):
        out = bench.fresh()
        if name == "read-only":
            out.mkdir(mode=0o555)
        else:
            out.write_text("mine\n")
        ended = bench.go(bench.training(out=out), Limits(plain_user=True))
        steps = len(bench.peer.steps(ended.log))
        good = ended.code != 0 and steps == 0
        remark = f"{'refused' if ended.code else 'not refused'} after {steps} steps"
        variants.append(Variant(name, good, f"{remark} ({ended.short})"))
    training = bench.training(epochs=3)
    first = bench.start(training)
    first.until(lambda: bench.step_of(first) >= 6)
    second = bench.go(training)
    ended = first.wait(60)
    refused = second.code != 0 and not bench.peer.steps(second.log)
    remark = "refused" if refused else f"both run (exit {ended.code} and {second.code})"
    variants.append(Variant("two runs in one folder", refused, remark))
    return Result("; ".join(f"{one.name}: {one.remark}" for one in variants), variants)


def non_finite(bench: Bench) -> Result:
    """8: a loss that is not finite: the run stops or skips, and saves no such weights."""
    training = bench.training(lr=1e38, epochs=2)
    ended = bench.go(training)
    steps = bench.peer.steps(ended.log)
    bad = sum(not np.isfinite(step.loss) for step in steps)
    found = [ask(partial(_finite, bench, path))[0] for path in bench.peer.checkpoints(training.out)]
    final, _ = ask(partial(_finite, bench, bench.peer.final(training.out)))
    stops = bool(said(ended, r"nan|non-finite|invalid loss")) and bad <= 4
    clean = all(one is not False for one in [*found, final])
    after = f"{max(0, bad - 1)} more steps after the first bad loss, exit {ended.code}"
    variants = [
        Variant("stops or skips, and says so", stops, after),
        Variant("saves no such weights", clean, f"checkpoints finite: {[*found, final]}"),
    ]
    saved = "" if clean else "; NaN weights are saved over the last good ones"
    return Result(after + saved + ("; says so" if stops else "; nothing said"), variants)


def _finite(bench: Bench, path: Path) -> bool | None:
    if not path.exists():
        return None
    return all(bool(np.isfinite(array).all()) for array in bench.peer.arrays(path).values())


def changed_settings(bench: Bench) -> Result:
    """9: resuming with another batch, rate or number of workers: refused, or said."""
    variants = []
    for name, changes in (("batch", {"batch": 16}), ("lr", {"lr": 0.2})):
        ended = bench.resume(bench.saved(1), epochs=2, **changes)
        told = said(
            ended, r"(batch|learning rate|\blr\b).*(differs|changed|mismatch|instead|was \d)"
        )
        used = re.findall(r"(?:LR: |lr: )([\d.e+-]+)", ended.log)
        remark = told or f"goes on in silence, exit {ended.code}" + (
            f", uses lr {used[0]}" if used and name == "lr" else ""
        )
        variants.append(Variant(name, ended.code != 0 or bool(told), remark))
    workers = {}
    if isinstance(bench.peer, Keras):
        variants.append(Variant("workers", None, "tf.data has no such number here"))
    else:
        for count in (1, 2):
            out = bench.saved(1)
            ended = bench.resume(out, workers=count)
            workers[count] = bench.peer.fingerprint(bench.peer.final(out))
        same = workers[1] == workers[2]
        variants.append(
            Variant("workers", same, f"1 and 2 give {'the same' if same else 'other'} bits")
        )
    return Result("; ".join(f"{one.name}: {one.remark}" for one in variants), variants)
