"""torch.compile as forebear calls it: for batches of one shape, and without advice on TF32."""

from __future__ import annotations

import warnings
from typing import cast

import torch
from torch import nn

TF32 = "TensorFloat32 tensor cores"  # how inductor's advice begins: torch/_inductor/compile_fx.py


def compiled(model: nn.Module, *, mode: str = "default") -> nn.Module:
    """Returns a module that compiles itself at its first batch of each shape.

    Inductor advises TF32 in a warning, if a GPU has it. Products of fp32 are meant to be exact
    here, so this process no longer shows that warning.

    Args:
        model: Its parameters are those of the returned module.
        mode: As of torch.compile.
    """
    warnings.filterwarnings("ignore", message=TF32)
    return cast(nn.Module, torch.compile(model, mode=mode, dynamic=False))
