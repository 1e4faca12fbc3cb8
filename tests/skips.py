"""Which tests may be skipped, and where: CI fails on any other skip.

A reason that nobody expects hides a test that nobody runs.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

from forebear.hardware import processor

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _no_bf16() -> bool:
    return processor().level != "avx512-bf16"


def _no_bf16_for_winograd() -> bool:
    return _no_bf16() or processor().amx


def _no_avx2() -> bool:
    return processor().level in ("none", "generic")


def _no_shared() -> bool:
    return not SHARED.is_dir()


def _no_gpu() -> bool:
    import torch

    return not torch.cuda.is_available()


def _has_cuda_build() -> bool:
    import torch

    return torch.version.cuda is not None


def _no_compiler() -> bool:
    return not (shutil.which("cc") and shutil.which("c++"))


def _no_linux() -> bool:
    return sys.platform != "linux"


def _lacks(*modules: str) -> Callable[[], bool]:
    return lambda: not all(find_spec(module) for module in modules)


# What a reason says, and when it is true.
EXPECTED: tuple[tuple[str, Callable[[], bool]], ...] = (
    (r"this processor has no AVX-512 for bfloat16", _no_bf16),
    (r"no AVX-512 for bfloat16, or AMX, which is faster", _no_bf16_for_winograd),
    (r"this processor has no AVX2", _no_avx2),
    (r"beside the repository|on this machine", _no_shared),
    (r"needs an NVIDIA GPU", _no_gpu),
    (r"torch with CUDA has a guard of its own", _has_cuda_build),
    (r"no C compiler|no C\+\+ compiler|the C functions were not built", _no_compiler),
    (r"no /proc|reads /proc|glibc has the switch|no posix_fallocate", _no_linux),
    (r"limits the memory|priorities of threads are Linux's", _no_linux),
    (r"closes descriptors as a shell does", lambda: os.name != "posix"),
    (r"could not import 'datasets'", _lacks("datasets")),
    (r"could not import 'litert_torch'", _lacks("litert_torch")),
    (r"could not import 'nncf'", _lacks("nncf")),
    (r"could not import 'mlflow'", _lacks("mlflow")),
    (r"could not import '(alembic|sqlalchemy)'", _lacks("alembic", "sqlalchemy")),
    (r"could not import 'wandb'", _lacks("wandb")),
    (r"could not import 'ray'", _lacks("ray")),
    (r"could not import '(torchvision|timm)'", _lacks("torchvision", "timm")),
    (r"could not import 'transformers'", _lacks("transformers")),
    (r"could not import 'keras_hub'", _lacks("keras_hub")),
    (r"could not import 'tritonclient", _lacks("tritonclient")),
    (r"its small sisters stand for it: 1001 and 1202 layers", lambda: True),
    (r"resnext101_32x16d stands for it: it has up to 829 million parameters", lambda: True),
    (
        r"could not import '(tensorflow|keras|tf_keras|tf_slim|keras_applications)",
        _lacks("tensorflow", "tf_keras"),
    ),
)


def unexpected(reasons: Iterable[str]) -> list[str]:
    """The reasons that are not on the list, or are not true on this machine."""
    return sorted(
        reason
        for reason in set(reasons)
        if not any(re.search(text, reason) and true() for text, true in EXPECTED)
    )
