"""The C functions of the kernels: loaded from the package, and called on tensors.

They are built when forebear is installed (setup.py at the root of the repository), once for every
level of processor, and `library` takes those of the highest level that this processor has. Where
there are none, it says why, and torch's own operations serve.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from forebear.hardware import LEVELS, Level, processor

LIBRARY = Path(__file__).with_name("libforebear.so")
RECORD = LIBRARY.with_suffix(".json")  # what was built, as setup.py writes it
_AGAIN = "install forebear again"


class Pool(ctypes.Structure):
    """The entry points of torch's own OpenMP; a second pool of threads would fight with it."""

    _fields_ = tuple(
        (name, ctypes.c_void_p) for name in ("parallel", "thread", "threads", "barrier")
    )


class Norm(ctypes.Structure):
    """What norm.c calls struct norm."""

    _fields_ = (
        ("pool", Pool),
        *((name, ctypes.c_int32) for name in ("threads", "half", "activation", "biased")),
        *((name, ctypes.c_int64) for name in ("rows", "channels")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("x", "added", "y", "weight", "bias", "mean", "scale"),
                *("running_mean", "running_var"),
            )
        ),
        *((name, ctypes.c_double) for name in ("eps", "momentum")),
        *((name, ctypes.c_void_p) for name in ("dy", "dx", "dadded", "dweight", "dbias", "sums")),
    )


class Groups(ctypes.Structure):
    """What groups.c calls struct groups."""

    _fields_ = (
        ("pool", Pool),
        *((name, ctypes.c_int32) for name in ("threads", "size", "step", "holes")),
        *((name, ctypes.c_int64) for name in ("count", "height", "width", "channels")),
        *((name, ctypes.c_int64) for name in ("top", "left", "out_height", "out_width")),
        *((name, ctypes.c_void_p) for name in ("x", "weight", "y", "dy", "sums", "zeros", "space")),
    )


class MaxPool(ctypes.Structure):
    """What pool.c calls struct max_pool."""

    _fields_ = (
        ("pool", Pool),
        *((name, ctypes.c_int32) for name in ("threads", "half")),
        *((name, ctypes.c_int64) for name in ("count", "height", "width", "channels")),
        *((name, ctypes.c_int64) for name in ("kernel", "stride", "top", "left")),
        *((name, ctypes.c_int64) for name in ("out_height", "out_width")),
        *((name, ctypes.c_void_p) for name in ("x", "y", "which", "dy", "dx")),
    )


class Winograd(ctypes.Structure):
    """What winograd.c calls struct winograd."""

    _fields_ = (
        ("pool", Pool),
        *((name, ctypes.c_int32) for name in ("threads", "turned")),
        *((name, ctypes.c_int64) for name in ("count", "height", "width", "channels")),
        *((name, ctypes.c_int64) for name in ("top", "left")),
        *((name, ctypes.c_int64) for name in ("out_height", "out_width", "out_channels")),
        *((name, ctypes.c_void_p) for name in ("x", "weight", "y", "dy", "dweight", "space")),
        ("next", ctypes.c_int64),
    )


Job = TypeVar("Job", Groups, MaxPool, Winograd)
Shape = tuple[int, ...]  # [N, C, H, W]


class Library:
    """The functions of one level."""

    def __init__(self, path: Path, level: Level) -> None:
        """Loads them.

        Args:
            path: of the shared library.
            level: whose functions to take; it must be among those that were built.

        Raises:
            OSError: the file cannot be loaded.
            AttributeError: torch's threads are not those of an OpenMP with GNU's entry points.
        """
        self.level = level
        self.pool = _pool()
        loaded = ctypes.CDLL(str(path))

        def function(name: str, job: type[ctypes.Structure], result: Any = None) -> Any:
            found = getattr(loaded, f"{name}_{level.replace('-', '_')}")
            found.argtypes, found.restype = [ctypes.POINTER(job)], result
            return found

        self.norm_forward = function("norm_forward", Norm)
        self.norm_backward = function("norm_backward", Norm)
        self.pool_forward = function("pool_forward", MaxPool)
        self.pool_backward = function("pool_backward", MaxPool)
        self.bf16 = level == "avx512-bf16"  # whether it has the functions below
        if self.bf16:
            self.groups_map = function("groups_map", Groups)
            self.groups_weight = function("groups_weight", Groups)
            self.groups_space = function("groups_space", Groups, ctypes.c_int64)  # bytes a thread
            self.winograd_map = function("winograd_map", Winograd)
            self.winograd_weight = function("winograd_weight", Winograd)
            self.winograd_space = function("winograd_space", Winograd, ctypes.c_int64)  # bytes


def built() -> dict[str, Any]:
    """What setup.py wrote about the build: compiler, levels, hashes, or an error.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no JSON object.
    """
    found = json.loads(RECORD.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{RECORD}: {type(found).__name__}. Expected an object.")
    return found


def library() -> Library | str:
    """The functions for this processor, or in a few words why there are none."""
    return _library(processor().level)


@lru_cache(maxsize=len(LEVELS))
def _library(level: Level) -> Library | str:
    if level == "none":
        return "FOREBEAR_CPU=none"
    if not sys.platform.startswith("linux"):
        return "they exist for Linux only"
    try:
        record = built()
        if "error" in record:
            return str(record["error"])
        allowed = LEVELS[: LEVELS.index(level) + 1]
        there = [one for one in allowed if one.replace("-", "_") in record["levels"]]
        return _damage(record) or Library(LIBRARY, there[-1])
    except FileNotFoundError as error:
        return f"{Path(error.filename or LIBRARY).name} is missing; {_AGAIN}"
    except OSError as error:
        return f"{LIBRARY} cannot be loaded ({error}); {_AGAIN}"
    except AttributeError:
        return "torch's threads are not those of GNU's OpenMP"
    except (ValueError, TypeError, KeyError, IndexError):
        return f"{RECORD} is damaged; {_AGAIN}"


def _damage(record: dict[str, Any]) -> str:
    """Why the library must not be loaded, or "".

    A cut file ends the process while it is loaded, and one of other sources takes other structs.
    """
    if hashlib.sha256(LIBRARY.read_bytes()).hexdigest() != record["library"]:
        return f"{LIBRARY} is damaged; {_AGAIN}"
    sources = sorted(LIBRARY.parent.glob("*.[ch]"))  # there in an editable install
    found = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
    if sources and found.hexdigest() != record["sources"]:
        return f"the C sources have changed since they were built; {_AGAIN}"
    return ""


def compiled() -> Library:
    """The functions, for a caller that has seen that `library` has them."""
    found = library()
    assert isinstance(found, Library)
    return found


def job_over(kind: type[Job], shape: Shape, given: Shape, top: int, left: int) -> Job:
    """What the functions are told about windows that go over a map.

    Args:
        kind: of job.
        shape: [N, C, H, W], of the map read.
        given: the same, of the map given out.
        top: rows that the first window lies above the map.
        left: columns that it lies beside it.
    """
    count, channels, height, width = shape
    return kind(
        pool=compiled().pool,
        threads=torch.get_num_threads(),
        count=count,
        height=height,
        width=width,
        channels=channels,
        top=top,
        left=left,
        out_height=given[2],
        out_width=given[3],
    )


def _pool() -> Pool:
    """The OpenMP that torch itself calls, whichever file it came from."""
    torch_cpu = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads", "GOMP_barrier")
    return Pool(*(ctypes.cast(getattr(torch_cpu, name), ctypes.c_void_p) for name in names))
