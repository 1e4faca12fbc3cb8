"""A process that has imported forebear and torch, and forks children that run the command line.

`Zygote` is its other end, in the tests. Both speak JSON, a line a message: {words, folder, ...} is
answered by {pid}, and {pid, status, peak} follows when the child has ended.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.faults.harness import MEMORY, ROOT, Child, address_space, pipes

_PRELOADED = (
    "forebear.tasks.train.api", "forebear.tasks.evaluate", "forebear.tasks.predict_job",
    "forebear.tasks.convert", "forebear.tasks.check", "torch._dynamo", "torch.distributed",
    "tests.faults.inside",
)  # fmt: skip


class Zygote:
    """Forks children. A context, at whose end all of them are killed."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote", str(theirs.fileno())],
            cwd=ROOT,
            pass_fds=(theirs.fileno(),),
            env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
        theirs.close()
        self._came = b""  # the beginning of a message
        self._ended: dict[int, tuple[int, float]] = {}
        self._children: list[Child] = []

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            if child.running():
                child.kill()
        self._socket.close()
        self._process.kill()
        self._process.wait(10)

    def start(
        self,
        *words: object,
        folder: Path,
        faults: Mapping[str, Mapping[str, Any]] | None = None,
        env: Mapping[str, str] | None = None,
        memory_bytes: int | None = MEMORY,
    ) -> Child:
        """Starts the command.

        Args:
            words: Its arguments.
            folder: For its pipes; made here. Its working folder, too.
            faults: Functions of inside.py, with their arguments.
            env: Variables beside those of this process.
            memory_bytes: Of address space that it may take beyond the zygote's; None: any.
        """
        made = pipes(folder)
        request = {
            "words": list(map(str, words)),
            "folder": str(folder),
            "faults": dict(faults or {}),
            "env": {"FOREBEAR_HOME": os.environ["FOREBEAR_HOME"]} | dict(env or {}),
            "memory": memory_bytes,
        }
        self._socket.sendall(f"{json.dumps(request)}\n".encode())
        number = self._take()
        while number is None:
            number = self._take()
        child = Child(number, made, lambda: self._status(number))
        self._children.append(child)
        return child

    def _take(self) -> int | None:
        """Reads what has come: notes the ends of children; returns the number of a new one."""
        self._came += self._socket.recv(1 << 16)
        *lines, self._came = self._came.split(b"\n")
        new: int | None = None
        for message in map(json.loads, lines):
            if "status" in message:
                self._ended[message["pid"]] = (message["status"], message["peak"])
            else:
                new = message["pid"]
        return new

    def _status(self, number: int) -> tuple[int, float] | None:
        while select.select([self._socket], [], [], 0)[0]:
            self._take()
        return self._ended.get(number)


def _serve(connection: socket.socket) -> None:
    """Forks a child for each request until the other end is closed."""
    living: set[int] = set()
    requests = b""
    while True:
        if select.select([connection], [], [], 0.002)[0]:
            more = connection.recv(1 << 20)
            if not more:
                return
            requests += more
        while b"\n" in requests:
            line, _, requests = requests.partition(b"\n")
            number = _fork(json.loads(line), connection)
            living.add(number)
            _send(connection, {"pid": number})
        for number in list(living):
            done, status, used = os.wait4(number, os.WNOHANG)
            if done:
                living.remove(number)
                peak = used.ru_maxrss / 1024
                _send(connection, {"pid": number, "status": status, "peak": peak})


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(f"{json.dumps(message)}\n".encode())


def _fork(request: dict[str, Any], connection: socket.socket) -> int:
    number = os.fork()
    if number:
        return number
    code = 1
    try:  # never left: the child ends within
        connection.close()
        code = _run(request)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(request: dict[str, Any]) -> int:
    from forebear.cli.main import main
    from tests.faults import inside

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(request["folder"])
    for handle, name in ((1, "stdout"), (2, "stderr")):
        with (folder / name).open("wb", buffering=0) as pipe:
            os.dup2(pipe.fileno(), handle)
    sys.stdout, sys.stderr = (os.fdopen(handle, "w", buffering=1) for handle in (1, 2))
    inside.open_trace(folder / "trace")
    os.environ |= request["env"]
    os.environ.pop("FOREBEAR_TRACEBACK", None)
    os.chdir(folder)
    if request["memory"] is not None:
        most = address_space() + request["memory"]
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with ExitStack() as stack:
        stack.enter_context(inside.watched())
        for name, given in request["faults"].items():
            stack.enter_context(getattr(inside, name)(**given))
        return main(request["words"])


if __name__ == "__main__":
    from forebear.cli.main import VERBS

    for one in (*_PRELOADED, *(f"forebear.cli.{verb}" for verb in VERBS)):
        importlib.import_module(one)
    _serve(socket.socket(fileno=int(sys.argv[1])))
