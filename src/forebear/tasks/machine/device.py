"""Chooses device, precision and algorithms."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from forebear.hardware import processor

Precision = Literal["fp32", "bf16"]


def find_device(name: str = "auto") -> torch.device:
    """Returns the device of a name; "auto" is a GPU if there is one.

    Raises:
        ValueError: a device that this machine lacks.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"device={name!r}: this machine has no GPU that torch can use. Expected cpu. "
            "Pass cpu or auto."
        )
    expected = "Expected auto, cpu, cuda or cuda:N. Pass one of these."
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device={name!r} is no device. {expected}") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device={name!r}: forebear does not run on {device.type}. {expected}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ValueError(f"device={name!r}: this machine has {count} of them. {expected}")
    return device


def find_precision(name: str, device: torch.device) -> Precision:
    """Returns the precision of a name; "auto" is bf16 if the hardware multiplies it natively.

    Raises:
        ValueError: another name.
    """
    if name not in ("auto", "fp32", "bf16"):
        raise ValueError(f"precision={name!r}: expected auto, fp32 or bf16.")
    return "bf16" if name == "bf16" or (name == "auto" and has_bf16(device)) else "fp32"


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively; otherwise it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and processor().bf16


def fastest_dtype(device: torch.device) -> torch.dtype:
    """Returns the dtype with the fastest matrix products: bfloat16 or float32."""
    return torch.bfloat16 if has_bf16(device) else torch.float32


def device_name(device: torch.device) -> str:
    """Returns the name of the GPU, or of the CPU with its level: "AMD EPYC (avx512-bf16)"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(processor())


@contextmanager
def algorithms(device: torch.device, *, deterministic: bool) -> Iterator[None]:
    """Uses the fastest of cuDNN's algorithms within the context, or deterministic ones.

    The fastest are found by trying them once a shape, and can add in another order each time. Where
    torch has no operation that repeats it warns. On a processor nothing needs to be chosen.

    Args:
        device: where the operations run.
        deterministic: whether bits count more than speed.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    repeats = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn.benchmark, cudnn.deterministic = not deterministic, deterministic
    if deterministic:
        # NVIDIA, "cuBLAS library", section 2.1.4: without it products are not reproducible.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
        torch.use_deterministic_algorithms(repeats, warn_only=warns)


def peak_memory(device: torch.device) -> float:
    """Returns `peak_bytes` in MiB; 0.0 if it is not known."""
    return (peak_bytes(device) or 0) / 2**20


def peak_bytes(device: torch.device) -> int | None:
    """Returns the peak memory in bytes: of tensors on a GPU, of this process on a CPU.

    None on Windows, whose processes torch and Python do not measure.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # bytes there, KiB elsewhere
