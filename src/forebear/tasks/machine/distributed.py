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
from forebear.hardware import processor
from forebear.tasks.machine.device import find_device

T = TypeVar("T")

TIMEOUT = 120.0  # seconds without an answer after which a process counts as lost
PATIENCE = timedelta(days=7)  # for what one process does while the others wait: decoding, writing
GRACE = 5.0  # seconds from the first failure to the end of a process that hangs
LINGER = 2.0  # seconds that the first to fail has for its words: torchrun then ends all others
_WORD = "failed"  # key in the store: exit code and process of the first failure
_HEARD = "heard"  # key in the store: how many of the others know of it
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
    watch: _Watch | None = None  # where the process group is ours

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
        world = _meet(device)
        threads = torch.get_num_threads()
        torch.set_num_threads(world.processors)
        try:
            with _quiet():
                yield world
            world._leave()
        except BaseException as error:
            raise world._end_of(error) from error.__cause__
        finally:
            torch.set_num_threads(threads)
            if world.watch is not None:
                _part()

    @property
    def writes(self) -> bool:
        """Whether this process writes files and shows what happens: one does."""
        return self.rank == 0

    @property
    def processors(self) -> int:
        """This process' share of the machine's."""
        return max(1, processor().cores // self.local_size)

    def device(self, name: str) -> torch.device:
        """As `find_device`; each process of a machine has a GPU of its own."""
        found = find_device(name)
        if self.size == 1 or found.type != "cuda":
            return found
        return torch.device("cuda", self.local_rank)

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place; of a tensor on the processor."""
        if self.size > 1:
            distributed.all_reduce(values, group=self.quick)
        return values

    @torch.no_grad()
    def all_reduce_mean(self, values: Sequence[Tensor]) -> None:
        """Puts the mean over all processes into each tensor of floats, in one message."""
        if self.size > 1 and values:
            flat = torch.cat([value.flatten() for value in values])
            distributed.all_reduce(flat)
            flat /= self.size
            start = 0
            for value in values:
                value.copy_(flat[start : start + value.numel()].view_as(value))
                start += value.numel()

    def all_reduce_max(self, values: list[float]) -> list[float]:
        """The greatest of each value over all processes, so that all decide alike.

        Asked at every step, so in ceil(log2(size)) rounds, in which each hands on what it knows
        (Hensgen et al. 1988); gloo's own takes 2 (size - 1) one after the other.
        """
        found, reach = torch.tensor(values, dtype=torch.float64), 1
        while reach < self.size:
            theirs = torch.empty_like(found)
            to, source = (self.rank + reach) % self.size, (self.rank - reach) % self.size
            sent = distributed.isend(found, to, group=self.quick)
            distributed.recv(theirs, source, group=self.quick)
            assert sent is not None
            sent.wait()
            found, reach = found.maximum(theirs), 2 * reach
        most: list[float] = found.tolist()
        return most

    @torch.no_grad()
    def broadcast(self, values: Sequence[Tensor]) -> None:
        """Puts the first process' values into each tensor.

        Raises:
            RunError: they differ after it, so that the processes are not of one network.
        """
        if self.size == 1:
            return
        for value in values:
            distributed.broadcast(value, src=0)
        total = float(sum(float(value.double().sum()) for value in values))
        least, most = self.all_reduce_max([-total, total])
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

    def on_rank0(self, work: Callable[[], T]) -> T:
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

    def _leave(self) -> None:
        """The common end of a run: nobody goes while another could still miss it."""
        if self.watch is not None:
            self.watch.left.set()
            distributed.barrier(group=self.quick)

    def _end_of(self, error: BaseException) -> BaseException:
        """The error itself where this process is to tell it, else a silent exit."""
        watch = self.watch
        if watch is None or isinstance(error, SystemExit | GeneratorExit):
            return error
        if isinstance(error, StopError):
            watch.tell(error.code)  # before the first step it can be this process' own
            watch.left.set()
            return error if self.writes else _silent(error.code)
        if _is_of_a_peer(error):
            if watch.hears():
                return self._silenced(watch)
            error = PeerError(
                f"process {self.rank} of {self.size}: another one is gone without a word, or has "
                f"not answered for {self.timeout:g} s ({_first_line(error)}). Expected all of them "
                "to run to the end. Look for one that was killed, as for want of memory, and go on "
                "by forebear train --resume."
            )
        code = error.code if isinstance(error, ForebearError) else 2
        watch.tell(130 if isinstance(error, KeyboardInterrupt) else code)
        if watch.word[1] != self.rank:
            return self._silenced(watch)
        if self.writes:  # the store can be this process' own, and ends with it
            watch.heard_by(self.size - 1)
        watch.left.set()
        return error

    def _silenced(self, watch: _Watch) -> SystemExit:
        watch.left.set()
        return _silent(watch.word[0])


class _Watch:
    """What a process knows of the failure of another; ends it even where it hangs."""

    def __init__(self, store: Store, rank: int) -> None:
        self.store, self.rank = store, rank
        self.word = (2, -1)  # exit code and number of the process that failed first; -1: none
        self.left = threading.Event()  # this process knows, or is at its end
        threading.Thread(target=self._run, daemon=True).start()

    def tell(self, code: int) -> None:
        """Leaves word that this process has failed, unless another one has before."""
        try:
            word = self.store.compare_set(_WORD, "", f"{code} {self.rank}")
        except RuntimeError:  # the store is gone with the process that kept it
            word = f"{code} {self.rank}".encode()
        if self.word[1] < 0:
            self.word = _read(word)

    def hears(self) -> bool:
        """Whether another process leaves word within the time that it takes."""
        if self.word[1] < 0:
            with suppress(RuntimeError):
                self.store.wait([_WORD], timedelta(seconds=LINGER))
                self.word = _read(self.store.get(_WORD))
                self.store.add(_HEARD, 1)
        return self.word[1] >= 0

    def heard_by(self, count: int) -> None:
        """Waits a little, until so many others know."""
        until = time.monotonic() + LINGER
        with suppress(RuntimeError):
            while self.store.add(_HEARD, 0) < count and time.monotonic() < until:
                time.sleep(0.05)

    def _run(self) -> None:
        while not self.left.wait(1.0):
            try:
                if not self.store.check([_WORD]):
                    continue
                self.word = _read(self.store.get(_WORD))
                self.store.add(_HEARD, 1)
            except RuntimeError:  # the store is gone, and who kept it too
                pass
            if not self.left.wait(GRACE):
                os._exit(self.word[0])
            return


def _read(word: bytes) -> tuple[int, int]:
    code, rank = word.split()
    return int(code), int(rank)


ALONE = World()


def _meet(device: str) -> World:
    """The world of this process; the process group is made where nobody has."""
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
    store = None
    try:
        if not distributed.is_initialized():  # Ray Train and others have made one
            store, rank, size = next(rendezvous("env://", timeout=span))
            store = PrefixStore(f"forebear {restarts}.{next(_joined)}", store)
            distributed.init_process_group(
                "nccl" if gpus else "gloo", store=store, rank=rank, world_size=size, timeout=span
            )
        quick = distributed.new_group(backend="gloo", timeout=span)
        patient = distributed.new_group(backend="gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"the processes of this run did not find each other within {timeout:g} s "
            f"({_first_line(error)}). Expected what torchrun sets: RANK, WORLD_SIZE, MASTER_ADDR "
            "and MASTER_PORT, the same for all. Start them by torchrun, on machines that reach "
            "each other."
        ) from None
    rank = distributed.get_rank()
    return World(
        rank=rank,
        size=distributed.get_world_size(),
        local_rank=local_rank,
        local_size=local_size,
        restarts=restarts,
        timeout=timeout,
        quick=quick,
        patient=patient,
        watch=None if store is None else _Watch(store, rank),
    )


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
