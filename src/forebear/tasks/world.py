"""The processes that train one network together; most often one alone.

`torchrun` starts them and tells each its number by the environment; `World.join` makes them a
world. Small messages go from processor to processor by gloo, gradients by NCCL where there are
GPUs. What ends one process ends all, and is said once: the first to fail leaves word in the
store that they met at, and a thread of each other looks there every second.

Whoever can reach the ports of the store and of the processes can make them do anything: trusted
networks only.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from forebear.errors import ForebearError, RunError, StopError
from forebear.tasks.device import find_device

T = TypeVar("T")

TIMEOUT = 120.0  # seconds without an answer after which a process counts as lost
PATIENCE = timedelta(days=7)  # for what one process does while the others wait: decoding, writing
GRACE = 5.0  # seconds from the first failure to the end of a process that hangs
LINGER = 2.0  # seconds that the first to fail has for its words: torchrun then ends all others
_WORD = "failed"  # key in the store: exit code and process of the first failure
_joined = itertools.count()  # worlds of this process so far; each has its own keys in the store


class PeerError(RunError):
    """Another process of the run is gone or does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """This process among all of them."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among those of this machine
    local_size: int = 1
    restarts: int = 0  # how often torchrun has started all of them anew
    timeout: float = TIMEOUT
    quick: distributed.ProcessGroup | None = None  # between processors, with the timeout
    patient: distributed.ProcessGroup | None = None  # for waiting while one is at work
    store: Store | None = None

    @classmethod
    @contextmanager
    def join(cls, device: str = "auto") -> Iterator[World]:
        """The world that torchrun, or a caller that has made a process group, put this process in.

        Without either the process is alone. However the context ends, it ends for all processes:
        an error is raised by the first that met one, and ends the others without a word.

        Args:
            device: that is asked for, as `find_device` takes it; each process has a GPU of its own.

        Raises:
            ValueError: fewer GPUs than processes on this machine, or a timeout that is no number.
            RunError: the processes did not find each other, or one was lost on the way.
        """
        if not distributed.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) == 1:
            yield ALONE
            return
        world, ours = _meet(device)
        left = threading.Event()
        threading.Thread(target=world._watch, args=(left,), daemon=True).start()
        threads = torch.get_num_threads()
        torch.set_num_threads(world.processors)
        try:
            with _quiet():
                yield world
        except BaseException as error:
            raise world._end_of(error) from error.__cause__
        finally:
            left.set()
            torch.set_num_threads(threads)
            if ours:
                _part()

    @property
    def writes(self) -> bool:
        """Whether this process writes files and shows what happens: one does."""
        return self.rank == 0

    @property
    def processors(self) -> int:
        """This process' share of the machine's."""
        count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return max(1, (count or 1) // self.local_size)

    def device(self, name: str) -> torch.device:
        """As `find_device`; each process of a machine has a GPU of its own."""
        found = find_device(name)
        if self.size == 1 or found.type != "cuda":
            return found
        return torch.device("cuda", self.local_rank)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place; of a tensor on the processor."""
        if self.size > 1:
            distributed.all_reduce(values, group=self.quick)
        return values

    @torch.no_grad()
    def mean(self, values: Sequence[Tensor]) -> None:
        """Puts the mean over all processes into each tensor of floats, in one message."""
        if self.size > 1 and values:
            flat = torch.cat([value.flatten() for value in values])
            distributed.all_reduce(flat)
            flat /= self.size
            start = 0
            for value in values:
                value.copy_(flat[start : start + value.numel()].view_as(value))
                start += value.numel()

    def most(self, values: list[float]) -> list[float]:
        """The greatest of each value over all processes, so that all decide alike."""
        if self.size == 1:
            return values
        found = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(found, distributed.ReduceOp.MAX, group=self.quick)
        most: list[float] = found.tolist()
        return most

    @torch.no_grad()
    def share(self, values: Sequence[Tensor]) -> None:
        """Puts the first process' values into each tensor.

        Raises:
            RunError: they differ after it, so that the processes are not of one network.
        """
        if self.size == 1:
            return
        for value in values:
            distributed.broadcast(value, src=0)
        total = float(sum(float(value.double().sum()) for value in values))
        least, most = self.most([-total, total])
        if not math.isnan(total) and -least != most:
            raise RunError(
                f"the weights of process {self.rank} of {self.size} are not those of the first. "
                "Expected the same in all. Use one forebear, one torch and one table everywhere."
            )

    def gather(self, value: T) -> list[T]:
        """Everyone's value, in the order of the processes."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value, group=self.quick)
        return found

    def first(self, work: Callable[[], T]) -> T:
        """What the first process makes of `work`, on all; the others wait however long it takes."""
        if self.size == 1:
            return work()
        found: list[Any] = [work() if self.writes else None]
        distributed.broadcast_object_list(found, src=0, group=self.patient)
        result: T = found[0]
        return result

    def in_turn(self, work: Callable[[], None]) -> None:
        """Has `work` done by the first process, then by one a machine, then by all others.

        So what the first keeps on disk is there for the others, whichever disk they share.
        """
        mine = 0 if self.writes else 1 if self.local_rank == 0 else 2
        for turn in range(3):
            if turn == mine:
                work()
            if self.size > 1:
                distributed.barrier(group=self.patient)

    def united(self, values: dict[int, str]) -> bool:
        """Fills a dictionary with what the others have in theirs; whether any of them grew."""
        parts: list[Mapping[int, str]] = self.gather(dict(values))
        for part in parts:
            values.update(part)
        return any(len(part) < len(values) for part in parts)

    def _watch(self, left: threading.Event) -> None:
        """Ends this process, even where it hangs, soon after another has failed."""
        while not left.wait(1.0):
            try:
                failed = self.store is not None and self.store.check([_WORD])
            except RuntimeError:  # the store is gone: the next message will say so
                return
            if failed:
                if not left.wait(GRACE):
                    os._exit(self._word()[0])
                return

    def _end_of(self, error: BaseException) -> BaseException:
        """The error itself where this process is to tell it, else a silent exit."""
        if isinstance(error, StopError):
            return error if self.writes else _silent(error.code)
        if isinstance(error, SystemExit | GeneratorExit):
            return error
        if _is_of_a_peer(error):
            if self._failed(LINGER):
                return _silent(self._word()[0])
            error = PeerError(
                f"process {self.rank} of {self.size}: another one is gone without a word, or has "
                f"not answered for {self.timeout:g} s ({_first_line(error)}). Expected all of them "
                "to run to the end. Look for one that was killed, as for want of memory, and go on "
                "by forebear train --resume."
            )
        code = error.code if isinstance(error, ForebearError) else 2
        mine = f"{130 if isinstance(error, KeyboardInterrupt) else code} {self.rank}"
        with suppress(RuntimeError):
            if self.store is not None:
                self.store.compare_set(_WORD, "", mine)
        return error if self._word() == (int(mine.split()[0]), self.rank) else _silent(code)

    def _failed(self, seconds: float) -> bool:
        """Whether a process leaves word within so long that it has failed."""
        if self.store is None:
            return False
        try:
            self.store.wait([_WORD], timedelta(seconds=seconds))
        except RuntimeError:
            return False
        return True

    def _word(self) -> tuple[int, int]:
        """The exit code and the number of the process that failed first; this one for want of any.

        Its own where the store is gone with the process that kept it.
        """
        try:
            assert self.store is not None
            code, rank = self.store.get(_WORD).split()
        except (AssertionError, RuntimeError):
            return 2, self.rank
        return int(code), int(rank)


ALONE = World()


def _meet(device: str) -> tuple[World, bool]:
    """The world of this process, and whether its process group is ours to end."""
    timeout = _timeout()
    span = timedelta(seconds=timeout)
    local_rank, local_size = (
        int(os.environ.get(name, default))
        for name, default in (("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1"))
    )
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    gpus = find_device(device).type == "cuda"
    if gpus:
        _refuse_too_few(local_size)
        torch.cuda.set_device(local_rank)
    ours = not distributed.is_initialized()
    try:
        if ours:
            store, rank, size = next(rendezvous("env://", timeout=span))
            store = PrefixStore(f"forebear {restarts}.{next(_joined)}", store)
            distributed.init_process_group(
                "nccl" if gpus else "gloo", store=store, rank=rank, world_size=size, timeout=span
            )
        else:  # Ray Train and others make it
            store = None
        quick = distributed.new_group(backend="gloo", timeout=span)
        patient = distributed.new_group(backend="gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"the processes of this run did not find each other within {timeout:g} s "
            f"({_first_line(error)}). Expected what torchrun sets: RANK, WORLD_SIZE, MASTER_ADDR "
            "and MASTER_PORT, the same for all. Start them by torchrun, on machines that reach "
            "each other."
        ) from None
    world = World(
        rank=distributed.get_rank(),
        size=distributed.get_world_size(),
        local_rank=local_rank,
        local_size=local_size,
        restarts=restarts,
        timeout=timeout,
        quick=quick,
        patient=patient,
        store=store,
    )
    return world, ours


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what torch says of its own: each process would say it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")  # 2.10 needs it
        # A 1x1 filter's gradient has the same order in memory by other strides.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        yield


def _timeout() -> float:
    text = os.environ.get("FOREBEAR_TIMEOUT", f"{TIMEOUT:g}")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"FOREBEAR_TIMEOUT={text!r}: expected seconds, such as 120. Set it so.")
    return seconds


def _refuse_too_few(local_size: int) -> None:
    count = torch.cuda.device_count()
    if count < local_size:
        raise ValueError(
            f"{local_size} processes on a machine with {count} GPUs: expected a GPU for each. "
            f"Pass --nproc-per-node {count} to torchrun, or --device cpu to forebear."
        )


def _part() -> None:
    """Ends the process group; what a lost process left undone may not hold this one up."""
    ending = threading.Thread(target=_destroy, daemon=True)
    ending.start()
    ending.join(GRACE)


def _destroy() -> None:
    with suppress(RuntimeError, ValueError, AssertionError):
        distributed.destroy_process_group()


def _is_of_a_peer(error: BaseException) -> bool:
    """Whether it is what gloo, NCCL or the store raise when another process is gone."""
    told = isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "NCCL"))
    return told or isinstance(error, distributed.DistError)


def _first_line(error: BaseException) -> str:
    line = str(error).strip().partition("\n")[0].rstrip(".")
    return line.rpartition("] ")[2] if line.startswith("[") else line


def _silent(code: int) -> SystemExit:
    """An exit that says nothing, after the one that speaks has had its time."""
    time.sleep(LINGER)
    return SystemExit(code)
