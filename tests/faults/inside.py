"""What happens inside a child of the zygote: it is traced, and faults are made there.

The trace is a pipe with a line for each thing that happens:

    step N, stepped N           a step begins, has ended
    evaluation N, epoch N       an evaluation begins after step N; epoch N has ended
    save N                      the state after step N is about to be saved
    before fsync K of save N    the K-th call of os.fsync since then; also replace and unlink
    after fsync K of save N
    written K of save N         K tenths of a checkpoint are written (only with `slow_writer`)

The fault `at` has something happen at such a line. Each function below is a fault: a context
manager that is entered before the command runs. Nothing is undone: the process ends with the run.
"""

from __future__ import annotations

import errno
import importlib
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from forebear.data.decoder import Decoder
from forebear.data.loader import Loader
from forebear.data.pixel_store import PixelStore
from forebear.errors import RunError
from forebear.tasks.train import artifacts, prepare, recorder, step
from forebear.tasks.train.events import (
    CheckpointDue,
    EpochEnd,
    EvaluationStart,
    Event,
    Started,
    StepEnd,
    StepStart,
    observe,
)
from forebear.tasks.train.resume import checkpoint

TENTHS = 10

_trace: list[int] = []  # the handle of the pipe
_actions: dict[str, Callable[[], object]] = {}  # by the line at which they happen
_network: list[nn.Module] = []  # that is trained
_now = {"step": 0, "saved": -1}  # the step that has begun last; that of the last save
_calls = {"fsync": 0, "replace": 0, "unlink": 0}  # since then


def open_trace(path: Path) -> None:
    """Has lines written there."""
    _trace.append(os.open(path, os.O_WRONLY))


def note(line: str) -> None:
    """Writes a line of the trace, and has happen what is to happen there."""
    for handle in _trace:
        os.write(handle, f"{line}\n".encode())
    if line in _actions:
        _actions[line]()


def watched() -> AbstractContextManager[None]:
    """Traces events and calls, and leaves out plots, which take most of the time of a tiny run."""
    for name in _calls:
        _watch_call(name)
    for module in (prepare, artifacts):
        module.can_draw = bool  # type: ignore[attr-defined]
    return observe(_note_event)


def _note_event(event: Event) -> None:
    match event:
        case Started():
            _network.append(event.network)
        case StepStart():
            _now["step"] = event.step
            note(f"step {event.step}")
        case StepEnd():
            note(f"stepped {event.step}")
        case EvaluationStart():
            note(f"evaluation {event.step}")
        case EpochEnd():
            note(f"epoch {event.epoch.epoch}")
        case CheckpointDue():
            _now["saved"] = event.state.step
            _calls.update(dict.fromkeys(_calls, 0))
            note(f"save {event.state.step}")


def _watch_call(name: str) -> None:
    call = getattr(os, name)

    def noted(*args: Any, **kwargs: Any) -> Any:
        if _now["saved"] < 0:
            return call(*args, **kwargs)
        _calls[name] += 1
        what = f"{name} {_calls[name]} of save {_now['saved']}"
        note(f"before {what}")
        try:
            return call(*args, **kwargs)
        finally:
            note(f"after {what}")

    setattr(os, name, noted)


def _replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Puts in a function's place what `make` returns for it."""
    setattr(owner, name, make(getattr(owner, name)))


# Faults


@contextmanager
def at(**actions: str) -> Iterator[None]:
    """Has something happen: {line of the trace: what} (see `_action`)."""
    _actions.update({line: _action(what) for line, what in actions.items()})
    yield


def _action(what: str) -> Callable[[], object]:
    name, _, value = what.partition(" ")

    def fail() -> None:
        number = int(getattr(errno, value))
        raise OSError(number, os.strerror(number))

    def error() -> None:
        raise RunError("the moon is full. Expected a half. Wait.")

    def bug() -> None:
        raise RuntimeError("nobody thought of this")

    def memory() -> None:
        raise MemoryError

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(value), resource.RLIM_INFINITY))

    def pause() -> None:  # until the test makes a file of this name
        while not Path("go").exists():
            time.sleep(0.002)

    return {
        "stand": lambda: time.sleep(1000),  # as a disk that does not answer
        "pause": pause,
        "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
        "raise": error,  # as forebear raises
        "bug": bug,
        "memory": memory,
        "fail": fail,  # fail ENOSPC
        "limit": limit,  # limit BYTES: that a file may hold
    }[name]


@contextmanager
def undecoded() -> Iterator[None]:
    """Keeps no images: every step decodes its own."""
    store: Any = PixelStore.__init__
    store.__kwdefaults__.update(memory=0, disk=0)
    yield


@contextmanager
def slow_writer() -> Iterator[None]:
    """Writes checkpoints by tenths."""

    def slow(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        data = save(tensors, metadata)
        with Path(path).open("wb", buffering=0) as file:
            for tenth in range(TENTHS):
                note(f"written {tenth} of save {_now['saved']}")
                file.write(data[tenth * len(data) // TENTHS : (tenth + 1) * len(data) // TENTHS])

    _replace(checkpoint, "save_file", lambda _: slow)
    yield


@contextmanager
def kept(folder: str) -> Iterator[None]:
    """Keeps every checkpoint, under a second name in a folder."""

    def linked(saved: Path) -> Path:
        os.link(saved, Path(folder) / saved.name)
        return saved

    _replace(recorder, "save_checkpoint", lambda save: lambda *args: linked(save(*args)))
    yield


@contextmanager
def spoiled(where: str, value: str, steps: list[int]) -> Iterator[None]:
    """Puts a value that is not finite into the loss, the gradient or an image of some steps."""
    bad = float(value)

    def now() -> bool:
        return _now["step"] in steps

    def spoil_image(batch: Any) -> Any:
        if now():
            batch[0][0, 0, 3, 3] = bad
        return batch

    def spoil_gradients(event: Event) -> None:
        if isinstance(event, Started):
            for parameter in event.network.parameters():
                parameter.register_hook(  # type: ignore[no-untyped-call]
                    lambda grad: torch.full_like(grad, bad) if now() else grad
                )

    if where == "loss":
        _replace(step, "losses_of", lambda of: lambda *args: of(*args) + (bad if now() else 0))
    if where == "image":
        _replace(Loader, "view", lambda view: lambda *args: spoil_image(view(*args)))
    with observe(spoil_gradients if where == "gradient" else lambda _: None):
        yield


@contextmanager
def as_nobody() -> Iterator[None]:
    """Gives up the rights of root."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    yield


@contextmanager
def reading(do: str, after: int) -> Iterator[None]:
    """Has something happen in the threads that decode images, from some step on."""
    action = _action(do)
    for name in ("_square", "_part"):
        _watch_reading(name, action, after)
    yield


def _watch_reading(name: str, action: Callable[[], object], after: int) -> None:
    call = getattr(Decoder, name)

    def read(*args: Any) -> Any:
        if _now["step"] >= after:
            note("reading")
            action()
        return call(*args)

    setattr(Decoder, name, read)


@contextmanager
def torch_is(version: str) -> Iterator[None]:
    """Has torch say that it is another version."""
    torch.__version__ = TorchVersion(version)
    yield


@contextmanager
def returns(of: str, value: object) -> Iterator[None]:
    """Has a function, "module:name", return a value."""
    module, _, name = of.partition(":")
    setattr(importlib.import_module(module), name, lambda *_: value)
    yield
