"""Cases 21 and 22: a data loader's worker, or a rank, is killed or stands still."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from functools import partial
from pathlib import Path

from peer_faults.bench import NO_FEATURE, NOT_RUN, Bench, Result, Variant, said
from peer_faults.children import Child, Limits
from peer_faults.peers import Keras, TorchPeer

PATIENCE = 130.0  # seconds, as specified for a rank that stands still
SHORT = 30.0  # a worker that stands still is to be found in 10


def workers(bench: Bench) -> Result:
    """21: a worker is killed, or stands still: found within 10 s, and the run goes on or saves."""
    if isinstance(bench.peer, Keras):
        return Result("image_dataset_from_directory reads in threads", word=NO_FEATURE)
    variants = []
    for name, number in (("killed", signal.SIGKILL), ("stands still", signal.SIGSTOP)):
        training = bench.training(epochs=8, workers=2)
        child = bench.start(training)
        child.until(lambda: bench.step_of(child) >= 16)
        child.until(lambda: len(_workers(child)) >= 2, 5)
        found = _workers(child)
        if not found:
            raise RuntimeError(f"no workers\n{child.text()}")
        started = time.perf_counter()
        for pid in found if number == signal.SIGSTOP else found[:1]:
            os.kill(pid, number)
        done = bench.step_of(child)
        ended = child.wait(SHORT)
        took = time.perf_counter() - started
        steps = len(bench.peer.steps(ended.log))
        if ended.timed_out:
            variants.append(Variant(f"{name}: found", False, f"hangs, {SHORT:.0f} s and more"))
        else:
            told = said(ended, r"worker.*(killed|signal|exited|terminated)")
            good = took <= 10 and bool(told)
            variants.append(
                Variant(f"{name}: found", good, f"dies after {took:.1f} s: {told[:80]}")
            )
        whole = ended.code == 0 and steps == 96
        remark = "goes on" if whole else f"exit {ended.code} in step {done}"
        variants.append(Variant(f"{name}: goes on, or saves", whole or ended.code == 75, remark))
    return Result("; ".join(f"{one.name}: {one.remark}" for one in variants), variants)


def _workers(child: Child) -> list[int]:
    try:
        held = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(word) for word in held.split()]


def _free_port() -> int:
    with socket.socket() as open_:
        open_.bind(("127.0.0.1", 0))
        return int(open_.getsockname()[1])


def _torchrun(bench: Bench, out: Path, epochs: int, restarts: int = 0) -> Child:
    assert isinstance(bench.peer, TorchPeer)
    work = bench.peer.train(bench.training(out=out, epochs=epochs))
    script, words, _ = work.args  # type: ignore[attr-defined]
    here = Path(__file__).parent / "launch_torch.py"
    line = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
        "--master-addr", "127.0.0.1", "--master-port", str(_free_port()),
        "--max-restarts", str(restarts), str(here), str(script), *words,
    ]  # fmt: skip

    def become() -> None:
        os.execve(sys.executable, line, {**os.environ, "OMP_NUM_THREADS": "1"})

    return Child(become, bench.fresh("log"), Limits())


def _ranks(child: Child) -> list[int]:
    """The two processes that torchrun started."""
    return [pid for pid in _workers(child) if b"launch_torch" in _line(pid)]


def _line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _done(bench: Bench, child: Child, steps: int) -> bool:
    return bench.step_of(child) >= steps


def ranks(bench: Bench) -> Result:
    """22: a rank is killed or stands still under torchrun (two processes, gloo)."""
    if isinstance(bench.peer, Keras):
        return Result("no launcher of processes to compare with on a CPU", word=NOT_RUN)
    variants = []
    whole = bench.fresh()
    ended = _torchrun(bench, whole, 2).wait(180)
    expected = bench.peer.fingerprint(bench.peer.final(whole))
    if ended.code or not expected:
        raise RuntimeError(ended.log[-2000:])
    for name, number, patience in (
        ("killed", signal.SIGKILL, PATIENCE), ("stands still", signal.SIGSTOP, PATIENCE),
    ):  # fmt: skip
        child = _torchrun(bench, bench.fresh(), 60)
        child.until(partial(_done, bench, child, 10), 120)
        started = time.perf_counter()
        os.kill(_ranks(child)[1], number)
        ended = child.wait(patience)
        took = time.perf_counter() - started
        shown = said(ended, r"exitcode|signal|connection closed|timed? ?out")
        remark = f"all out after {took:.0f} s, exit {ended.code}: {shown[:80]}"
        if ended.timed_out:
            remark = f"hangs, {patience:.0f} s and more"
        variants.append(Variant(f"a rank {name}", not ended.timed_out and ended.code != 0, remark))
    out = bench.fresh()
    child = _torchrun(bench, out, 2, restarts=1)
    child.until(partial(_done, bench, child, 8), 120)
    os.kill(_ranks(child)[1], signal.SIGKILL)
    ended = child.wait(180)
    same = bench.peer.fingerprint(bench.peer.final(out)) == expected
    steps = len(bench.peer.steps(ended.log))
    remark = f"{'the same' if same else 'other'} bits, exit {ended.code}, {steps} steps for 12"
    variants.append(Variant("--max-restarts 1", ended.code == 0 and same, remark))
    return Result("; ".join(f"{one.name}: {one.remark}" for one in variants), variants)
