"""The C functions: compiled once by the machine's own compiler, kept, and called on tensors.

They lie in $FOREBEAR_HOME/kernels (default: ~/.cache/forebear/kernels), in one file for the text of
all sources, the compiler and the processor. Where none can be had, `library` says why, and torch's
own operations serve.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import torch

from forebear.files import home, write_whole

SOURCES = tuple(
    Path(__file__).with_name(name)
    for name in ("common.h", "groups.c", "norm.c", "pool.c", "winograd.c")
)
FLAGS = ("-O3", "-march=native", "-fPIC", "-shared")
_PATIENCE = 60  # seconds for the compiler, which takes five


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
    """The compiled functions."""

    def __init__(self, path: Path) -> None:
        """Loads them.

        Raises:
            OSError: the file cannot be loaded.
            AttributeError: torch's threads are not those of an OpenMP with GNU's entry points.
        """
        self.pool = _pool()
        loaded = ctypes.CDLL(str(path))
        self.norm_forward, self.norm_backward = loaded.norm_forward, loaded.norm_backward
        self.pool_forward, self.pool_backward = loaded.pool_forward, loaded.pool_backward
        self.groups_map, self.groups_weight = loaded.groups_map, loaded.groups_weight
        self.groups_space = loaded.groups_space  # bytes for each thread
        self.groups_here = loaded.groups_here  # 0 where the processor lacks bfloat16
        self.groups_here.argtypes, self.groups_here.restype = [], ctypes.c_int32
        self.winograd_map, self.winograd_weight = loaded.winograd_map, loaded.winograd_weight
        self.winograd_space = loaded.winograd_space  # bytes; 0 where the processor lacks bfloat16
        for function, job, result in (
            (self.norm_forward, Norm, None),
            (self.norm_backward, Norm, None),
            (self.groups_map, Groups, None),
            (self.groups_weight, Groups, None),
            (self.groups_space, Groups, ctypes.c_int64),
            (self.pool_forward, MaxPool, None),
            (self.pool_backward, MaxPool, None),
            (self.winograd_map, Winograd, None),
            (self.winograd_weight, Winograd, None),
            (self.winograd_space, Winograd, ctypes.c_int64),
        ):
            function.argtypes, function.restype = [ctypes.POINTER(job)], result


@lru_cache(maxsize=1)
def library() -> Library | str:
    """The compiled functions, or in a few words why there are none."""
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if compiler is None:
        return "no C compiler"
    try:
        return Library(_compiled(compiler))
    except subprocess.SubprocessError as error:
        said = getattr(error, "stderr", None) or str(error)
        return f"{compiler} fails: {said.strip().splitlines()[0] if said.strip() else error}"
    except AttributeError:
        return "torch's threads are not OpenMP's"
    except OSError as error:
        return f"cannot load what {compiler} made: {error}"


def compiled() -> Library:
    """The compiled functions, for who has seen that `library` has them."""
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


def _compiled(compiler: str) -> Path:
    """The file of this source, compiler and processor, made unless it is there."""
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=True, timeout=_PATIENCE
    ).stdout
    key = hashlib.sha256("\0".join((*FLAGS, version, _processor())).encode())
    for source in SOURCES:
        key.update(source.read_bytes())
    path = home() / "kernels" / f"{key.hexdigest()[:32]}.so"
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda target: _compile(compiler, target))
    except OSError:  # a home that cannot be written to
        path = Path(tempfile.mkdtemp(prefix="forebear-")) / path.name
        _compile(compiler, path)
    return path


def _compile(compiler: str, target: Path) -> None:
    subprocess.run(
        [
            compiler,
            *FLAGS,
            *(str(one) for one in SOURCES if one.suffix == ".c"),
            "-o",
            str(target),
            "-lm",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=_PATIENCE,
    )


def _processor() -> str:
    """What -march=native looks at."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))
