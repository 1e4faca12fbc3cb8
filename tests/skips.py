"""Which tests may be skipped, and where: CI fails on any other skip.

A reason that nobody expects hides a test that nobody runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

from forebear.hardware import processor

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _no_bf16() -> bool:
    return processor().level != "avx512-bf16" or processor().amx


def _no_avx2() -> bool:
    return processor().level in ("none", "generic")


def _no_shared() -> bool:
    return not SHARED.is_dir()


def _no_gpu() -> bool:
    import torch

    return not torch.cuda.is_available()


def _lacks(*modules: str) -> Callable[[], bool]:
    return lambda: not all(find_spec(module) for module in modules)


# What a reason says, and when it is true.
EXPECTED: tuple[tuple[str, Callable[[], bool]], ...] = (
    (r"this processor has no AVX-512 for bfloat16", _no_bf16),
    (r"this processor has no AVX2", _no_avx2),
    (r"beside the repository|on this machine", _no_shared),
    (r"needs an NVIDIA GPU", _no_gpu),
    (r"could not import 'datasets'", _lacks("datasets")),
    (r"could not import 'litert_torch'", _lacks("litert_torch")),
    (r"could not import 'nncf'", _lacks("nncf")),
    (r"could not import 'mlflow'", _lacks("mlflow")),
    (r"could not import '(alembic|sqlalchemy)'", _lacks("alembic", "sqlalchemy")),
    (r"could not import 'wandb'", _lacks("wandb")),
    (r"could not import 'ray'", _lacks("ray")),
    (r"could not import '(torchvision|timm)'", _lacks("torchvision", "timm")),
    (r"could not import 'transformers'", _lacks("transformers")),
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
