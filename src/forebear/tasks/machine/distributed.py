"""The processes that train one network together. Usually there is only one.

`torchrun` starts them, and numbers them by environment variables. `World.join` connects them. Small
messages go from CPU to CPU by gloo. On GPUs, gradients go by NCCL. If one process fails, all of
them end, and one of them shows the error (peer_failure.py).

Whoever can reach the ports of the store and of the processes can make them run any code. Use
trusted networks only.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from forebear.errors import RunError
from forebear.hardware import processor
from forebear.tasks.machine.device import find_device
from forebear.tasks.machine.peer_failure import FailureWatch
from forebear.tasks.machine.process_group import (
    TIMEOUT,
    connect,
    disconnect,
    quiet_torch,
    timeout_seconds,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """This process among all processes of a run."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among the processes of this machine
    local_size: int = 1
    restarts: int = 0  # how often torchrun has restarted all processes
    timeout: float = TIMEOUT
    quick: distributed.ProcessGroup | None = None  # gloo, with the timeout
    patient: distributed.ProcessGroup | None = None  # for waiting while one process is at work
    watch: FailureWatch | None = None  # None: another program has made the process group

    @classmethod
    @contextmanager
    def join(cls, device: str = "auto") -> Iterator[World]:
        """Connects the processes that torchrun, or the maker of a process group, has started.

        Without either, this process is alone. If one process fails, the context ends in all of
        them: the first that failed raises its error, and the others exit without a message.

        Args:
            device: The requested device, as for `find_device`. Each process has its own GPU.

        Raises:
            ValueError: There are fewer GPUs than processes on this machine, or the timeout is not
                a number.
            RunError: The processes did not find each other, or one of them was lost.
        """
        if not distributed.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) == 1:
            yield ALONE
            return
        world = _meet(device)
        threads = torch.get_num_threads()
        torch.set_num_threads(world.processors)
        try:
            with quiet_torch():
                yield world
            if world.watch is not None:
                world.watch.leave()
                distributed.barrier(group=world.quick)  # no process leaves while others need it
        except BaseException as error:
            final = error if world.watch is None else world.watch.report(error)
            raise final from error.__cause__
        finally:
            torch.set_num_threads(threads)
            if world.watch is not None:
                disconnect()

    @property
    def writes(self) -> bool:
        """Whether this process writes files and shows progress. Only rank 0 does."""
        return self.rank == 0

    @property
    def processors(self) -> int:
        """The number of CPU cores of this machine that this process may use."""
        return max(1, processor().cores // self.local_size)

    def device(self, name: str) -> torch.device:
        """Returns the device as `find_device` does. Each process has its own GPU."""
        found = find_device(name)
        if self.size == 1 or found.type != "cuda":
            return found
        return torch.device("cuda", self.local_rank)

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Sums a CPU tensor over all processes, in place."""
        if self.size > 1:
            distributed.all_reduce(values, group=self.quick)
        return values

    @torch.no_grad()
    def all_reduce_mean(self, values: Sequence[Tensor]) -> None:
        """Replaces float tensors by their means over all processes, in one message."""
        if self.size > 1 and values:
            flat = torch.cat([value.flatten() for value in values])
            distributed.all_reduce(flat)
            flat /= self.size
            start = 0
            for value in values:
                value.copy_(flat[start : start + value.numel()].view_as(value))
                start += value.numel()

    def all_reduce_max(self, values: list[float]) -> list[float]:
        """Returns the maximum of each value over all processes, so that all decide alike.

        It is used in every step. It therefore takes ceil(log2(size)) rounds, in which each process
        passes on its maxima (Hensgen et al. 1988). gloo's own takes 2 (size - 1) rounds.
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
        """Copies the tensors of rank 0 to all processes, in place.

        Raises:
            RunError: The copies differ, because the processes have different networks.
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
        """Returns the values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value, group=self.quick)
        return found

    def on_rank0(self, work: Callable[[], T]) -> T:
        """Runs `work` on rank 0, and returns its result on all processes, which wait for it."""
        if self.size == 1:
            return work()
        found: list[Any] = [work() if self.writes else None]
        distributed.broadcast_object_list(found, src=0, group=self.patient)
        result: T = found[0]
        return result

    def in_turn(self, work: Callable[[], None]) -> None:
        """Runs `work` on rank 0, then on one process of each other machine, then on all others.

        The files of earlier processes are then there for later ones, whichever disks they share.
        """
        mine = 0 if self.writes else 1 if self.local_rank == 0 else 2
        for turn in range(3):
            if turn == mine:
                work()
            if self.size > 1:
                distributed.barrier(group=self.patient)

    def united(self, values: dict[int, str]) -> bool:
        """Merges the dictionaries of all processes, in place. Returns whether any of them grew."""
        parts: list[Mapping[int, str]] = self.gather(dict(values))
        for part in parts:
            values.update(part)
        return any(len(part) < len(values) for part in parts)


ALONE = World()


def _meet(device: str) -> World:
    """Connects this process with the others."""
    timeout = timeout_seconds()
    local_rank, local_size = (
        int(os.environ.get(name, default))
        for name, default in (("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1"))
    )
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    gpus = find_device(device).type == "cuda"
    if gpus:
        _refuse_too_few(local_size)
        torch.cuda.set_device(local_rank)
    quick, patient, store = connect("nccl" if gpus else "gloo", restarts=restarts, timeout=timeout)
    rank, size = distributed.get_rank(), distributed.get_world_size()
    watch = None if store is None else FailureWatch(store, rank=rank, size=size, timeout=timeout)
    return World(
        rank=rank,
        size=size,
        local_rank=local_rank,
        local_size=local_size,
        restarts=restarts,
        timeout=timeout,
        quick=quick,
        patient=patient,
        watch=watch,
    )


def _refuse_too_few(local_size: int) -> None:
    count = torch.cuda.device_count()
    if count < local_size:
        raise ValueError(
            f"{local_size} processes on a machine with {count} GPUs: expected a GPU for each. "
            f"Pass --nproc-per-node {count} to torchrun, or --device cpu to forebear."
        )
