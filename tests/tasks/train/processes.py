"""Several processes on this machine, started as torchrun starts them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

# Starts with torch and forebear in memory: a process of its own takes seconds to read them.
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["forebear.cli.main", "forebear.tasks.train.api", "torch._dynamo"])

Work = Callable[..., Any]


class Processes:
    """Processes 0 to `count` - 1 of one world, each at the same work."""

    def __init__(self, count: int, folder: Path, work: Work, *more: Any, timeout: float = 60):
        """Starts them.

        Args:
            count: of processes.
            folder: for what they say and give back.
            work: a function of a module, called with `more`; an int that it gives is the exit code.
            more: its arguments.
            timeout: seconds after which a silent process counts as lost.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        setting = {
            "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port, "FOREBEAR_TIMEOUT": timeout, "CUDA_VISIBLE_DEVICES": "",
        }  # fmt: skip
        self.all: list[BaseProcess] = [
            _server.Process(
                target=_run, args=(setting | {"RANK": n, "LOCAL_RANK": n}, folder, work, more)
            )
            for n in range(count)
        ]
        for process in self.all:
            process.start()

    def end(self, seconds: float = 60) -> list[int | None]:
        """Waits for all; the exit codes, negative for a signal, None for one that had to be killed.

        Args:
            seconds: to wait at most.
        """
        until = time.monotonic() + seconds
        for process in self.all:
            process.join(max(0.0, until - time.monotonic()))
        codes = [process.exitcode for process in self.all]
        for process in self.all:
            with suppress(AttributeError):
                process.kill()
            process.join()
        return codes

    def wait(self, ready: Callable[[], bool], seconds: float = 60) -> None:
        """Waits until something has come true."""
        until = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < until, self.said()
            assert any(process.is_alive() for process in self.all), self.said()
            time.sleep(0.02)

    def said(self) -> list[str]:
        """What each wrote to stdout and stderr so far."""
        paths = [self.folder / f"said-{number}" for number in range(len(self.all))]
        return [path.read_text() if path.exists() else "" for path in paths]

    def results(self, *, seconds: float = 60) -> list[Any]:
        """Waits for all, none of which may fail; what each gave back."""
        codes = self.end(seconds)
        assert codes == [0] * len(codes), self.said()
        return [torch.load(self.folder / f"result-{n}") for n in range(len(self.all))]


def _run(setting: dict[str, Any], folder: Path, work: Work, more: tuple[Any, ...]) -> None:
    os.environ |= {name: str(value) for name, value in setting.items()}
    os.environ.pop("FOREBEAR_TRACEBACK", None)
    with (folder / f"said-{setting['RANK']}").open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1) for n in (1, 2))
    torch.set_num_threads(1)
    given = work(*more)
    if isinstance(given, int):
        sys.exit(given)
    torch.save(given, folder / f"result-{setting['RANK']}")
