"""Connects the processes of a run by torch's process groups, and takes the groups down again."""

from __future__ import annotations

import itertools
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Literal, NamedTuple

from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from forebear.errors import RunError
from forebear.tasks.machine.peer_failure import GRACE, first_line

TIMEOUT = 120.0  # seconds without an answer after which a process counts as lost
PATIENCE = timedelta(days=7)  # for work of one process that the others wait for, such as decoding
_connections = itertools.count()  # of this process so far; each has its own keys in the store


class Connection(NamedTuple):
    """The process groups of a run."""

    quick: distributed.ProcessGroup  # gloo, with the timeout
    patient: distributed.ProcessGroup  # gloo, for waiting while one process is at work
    store: Store | None  # None: the caller has made the default group, as Ray Train does


def connect(backend: Literal["gloo", "nccl"], *, restarts: int, timeout: float) -> Connection:
    """Makes the default process group unless there is one, and two groups for small messages.

    Args:
        backend: The backend of the default group.
        restarts: How often torchrun has restarted the processes. Each time has its own keys.
        timeout: Seconds without an answer after which a process counts as lost.

    Raises:
        RunError: The processes did not find each other.
    """
    span, store = timedelta(seconds=timeout), None
    try:
        if not distributed.is_initialized():
            store, rank, size = next(rendezvous("env://", timeout=span))
            store = PrefixStore(f"forebear {restarts}.{next(_connections)}", store)
            distributed.init_process_group(
                backend, store=store, rank=rank, world_size=size, timeout=span
            )
        quick = distributed.new_group(backend="gloo", timeout=span)
        patient = distributed.new_group(backend="gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"the processes of this run did not find each other within {timeout:g} s "
            f"({first_line(error)}). Expected what torchrun sets: RANK, WORLD_SIZE, MASTER_ADDR "
            "and MASTER_PORT, the same for all. Start them by torchrun, on machines that reach "
            "each other."
        ) from None
    return Connection(quick, patient, store)


def disconnect() -> None:
    """Takes the process groups down, without waiting long for a process that was lost."""
    ending = threading.Thread(target=_destroy, daemon=True)
    ending.start()
    ending.join(GRACE)


def timeout_seconds() -> float:
    """Returns FOREBEAR_TIMEOUT in seconds.

    Raises:
        ValueError: It is not a positive number.
    """
    text = os.environ.get("FOREBEAR_TIMEOUT", f"{TIMEOUT:g}")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"FOREBEAR_TIMEOUT={text!r}: expected seconds, such as 120. Set it so.")
    return seconds


@contextmanager
def quiet_torch() -> Iterator[None]:
    """Hides warnings that torch would show in every process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")  # 2.10 needs it
        # The gradient of a 1x1 convolution has the same memory order with other strides.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        yield


def _destroy() -> None:
    with suppress(RuntimeError, ValueError, AssertionError):
        distributed.destroy_process_group()
