"""Loads the C functions of the kernels, and defines their argument structs.

setup.py at the root of the repository builds them when forebear is installed, once for each
instruction set level. `library` selects the functions of the highest level that this processor
supports. If there are none, it returns the reason, and torch's own operations are used.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from forebear.hardware import LEVELS, Level, processor

LIBRARY = Path(__file__).with_name("libforebear.so")
RECORD = LIBRARY.with_suffix(".json")  # setup.py describes the build in it
_AGAIN = "install forebear again"


class Pool(ctypes.Structure):
    """The entry points of torch's OpenMP. A second thread pool would compete with torch's."""

    _fields_ = tuple(
        (name, ctypes.c_void_p) for name in ("parallel", "thread", "threads", "barrier")
    )


class NormJob(ctypes.Structure):
    """The arguments of the functions in norm.c: struct norm."""

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


class GroupsJob(ctypes.Structure):
    """The arguments of the functions in groups.c: struct groups."""

    _fields_ = (
        ("pool", Pool),
        *((name, ctypes.c_int32) for name in ("threads", "size", "step", "holes")),
        *((name, ctypes.c_int64) for name in ("count", "height", "width", "channels")),
        *((name, ctypes.c_int64) for name in ("top", "left", "out_height", "out_width")),
        *((name, ctypes.c_void_p) for name in ("x", "weight", "y", "dy", "sums", "zeros", "space")),
    )


class MaxPoolJob(ctypes.Structure):
    """The arguments of the functions in pool.c: struct max_pool."""

    _fields_ = (
        ("pool", Pool),
        *((name, ctypes.c_int32) for name in ("threads", "half")),
        *((name, ctypes.c_int64) for name in ("count", "height", "width", "channels")),
        *((name, ctypes.c_int64) for name in ("kernel", "stride", "top", "left")),
        *((name, ctypes.c_int64) for name in ("out_height", "out_width")),
        *((name, ctypes.c_void_p) for name in ("x", "y", "which", "dy", "dx")),
    )


class WinogradJob(ctypes.Structure):
    """The arguments of winograd.c and winograd_fp32.c: struct winograd."""

    _fields_ = (
        ("pool", Pool),
        *((name, ctypes.c_int32) for name in ("threads", "turned")),
        *((name, ctypes.c_int64) for name in ("count", "height", "width", "channels")),
        *((name, ctypes.c_int64) for name in ("top", "left")),
        *((name, ctypes.c_int64) for name in ("out_height", "out_width", "out_channels")),
        *((name, ctypes.c_void_p) for name in ("x", "weight", "y", "dy", "dweight", "space")),
        ("next", ctypes.c_int64),
    )


class WeightJob(ctypes.Structure):
    """The arguments of the functions in weight_fp32.c: struct convolution."""

    _fields_ = (
        ("pool", Pool),
        *((name, ctypes.c_int32) for name in ("threads", "kernel", "stride")),
        *((name, ctypes.c_int64) for name in ("count", "height", "width", "channels")),
        *((name, ctypes.c_int64) for name in ("top", "left")),
        *((name, ctypes.c_int64) for name in ("out_height", "out_width", "out_channels")),
        *((name, ctypes.c_void_p) for name in ("x", "dy", "dweight", "space")),
    )


@dataclass(frozen=True, slots=True)
class ConvFunctions:
    """C functions for the convolutions of one kind in one dtype. They take a pointer to a job."""

    map: Any  # writes the convolution, or its input gradient
    weight: Any  # writes the weight gradient
    space: Any  # returns the bytes of the workspace; for groups, of each thread of `weight`
    lanes: int  # the number of channels is a multiple of this; for groups, the sums in a vector


Job = TypeVar("Job", GroupsJob, MaxPoolJob, WeightJob, WinogradJob)
Shape = tuple[int, ...]  # [N, C, H, W]


class Library:
    """The C functions of one instruction set level."""

    def __init__(self, path: Path, level: Level, sources: str = "") -> None:
        """Loads the functions.

        Args:
            path: The shared library.
            level: The instruction set level, which must be one of those that were built.
            sources: sha256 of the C sources that it was built from, in hexadecimal.

        Raises:
            OSError: The file cannot be loaded.
            AttributeError: torch's OpenMP does not have the entry points of GNU's.
        """
        self.level, self.sources = level, sources
        self.pool = _pool()
        loaded = ctypes.CDLL(str(path))

        def function(name: str, job: type[ctypes.Structure], result: Any = None) -> Any:
            found = getattr(loaded, f"{name}_{level.replace('-', '_')}")
            found.argtypes, found.restype = [ctypes.POINTER(job)], result
            return found

        self.norm_forward = function("norm_forward", NormJob)
        self.norm_backward = function("norm_backward", NormJob)
        self.pool_forward = function("pool_forward", MaxPoolJob)
        self.pool_backward = function("pool_backward", MaxPoolJob)

        def convolutions(name: str, job: type[ctypes.Structure], lanes: int) -> ConvFunctions:
            return ConvFunctions(
                function(f"{name}_map", job),
                function(f"{name}_weight", job),
                function(f"{name}_space", job, ctypes.c_int64),
                lanes,
            )

        self.winograd: dict[torch.dtype, ConvFunctions] = {}
        self.groups: dict[torch.dtype, ConvFunctions] = {}
        self.has_fma = level != "generic"
        if self.has_fma:
            lanes = 16 if level == "x86-64-v3" else 32
            self.winograd[torch.float32] = convolutions("winograd_fp32", WinogradJob, lanes)
            self.groups[torch.float32] = convolutions("groups_fp32", GroupsJob, 8)
            self.weight_fp32 = function("weight_fp32", WeightJob)
            self.weight_fp32_space = function("weight_fp32_space", WeightJob, ctypes.c_int64)
            self.weight_fp32_lanes = lanes  # the channels of x are a multiple of this
        if level == "avx512-bf16":
            self.winograd[torch.bfloat16] = convolutions("winograd", WinogradJob, 32)
            self.groups[torch.bfloat16] = convolutions("groups", GroupsJob, 16)


def built() -> dict[str, Any]:
    """Returns setup.py's record of the build: compiler, levels and hashes, or an error.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file does not contain a JSON object.
    """
    found = json.loads(RECORD.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(
            f"{RECORD}: {type(found).__name__}. Expected a JSON object. To write the file again, "
            f"{_AGAIN}."
        )
    return found


def library() -> Library | str:
    """Returns the C functions for this processor, or a short reason why there are none."""
    return _library(processor().level)


@lru_cache(maxsize=len(LEVELS))
def _library(level: Level) -> Library | str:
    if level == "none":
        return "FOREBEAR_CPU=none"
    if not sys.platform.startswith("linux"):
        return "they are available on Linux only"
    try:
        record = built()
        if "error" in record:
            return str(record["error"])
        allowed = LEVELS[: LEVELS.index(level) + 1]
        there = [one for one in allowed if one.replace("-", "_") in record["levels"]]
        return _damage(record) or Library(LIBRARY, there[-1], record["sources"])
    except FileNotFoundError as error:
        return f"{Path(error.filename or LIBRARY).name} is missing; {_AGAIN}"
    except OSError as error:
        return f"{LIBRARY} cannot be loaded ({error}); {_AGAIN}"
    except AttributeError:
        return "torch does not use GNU's OpenMP"
    except (ValueError, TypeError, KeyError, IndexError):
        return f"{RECORD} is damaged; {_AGAIN}"


def _damage(record: dict[str, Any]) -> str:
    """Returns the reason why the library must not be loaded, or "".

    Loading a truncated file crashes the process. A library that was built from other sources may
    expect other structs.
    """
    if hashlib.sha256(LIBRARY.read_bytes()).hexdigest() != record["library"]:
        return f"{LIBRARY} is damaged; {_AGAIN}"
    sources = sorted(LIBRARY.parent.glob("*.[ch]"))  # only present in an editable install
    found = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
    if sources and found.hexdigest() != record["sources"]:
        return f"the C sources have changed since the build; {_AGAIN}"
    return ""


def version() -> str:
    """Returns a short name of the C sources; "" if their functions are not used here.

    Timings that are kept for later processes are of these sources only.
    """
    found = library()
    return found.sources[:12] if isinstance(found, Library) else ""


def compiled() -> Library:
    """Returns the C functions, for a caller that has checked that they exist."""
    found = library()
    assert isinstance(found, Library)
    return found


def job_over(kind: type[Job], shape: Shape, given: Shape, top: int, left: int) -> Job:
    """Returns a job struct with the geometry of a convolution or a pool filled in.

    Args:
        kind: The type of the job.
        shape: The shape of the input, [N, C, H, W].
        given: The shape of the output, [N, C, H, W].
        top: The rows of padding above the input.
        left: The columns of padding to the left of the input.
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
    """Returns the entry points of the OpenMP library that torch uses, wherever it is installed."""
    torch_cpu = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads", "GOMP_barrier")
    return Pool(*(ctypes.cast(getattr(torch_cpu, name), ctypes.c_void_p) for name in names))
