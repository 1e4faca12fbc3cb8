"""Replaces the layers and units of a network with classes that train faster on a CPU."""

from __future__ import annotations

import torch
from torch import nn

from forebear.network.kernels.modules import FAST, FastConv
from forebear.network.kernels.native import Library, library
from forebear.network.kernels.winograd import has_winograd

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def accelerate(network: nn.Module, *, winograd: bool = True) -> str:
    """Makes a network train faster on a CPU, in place. `forebear train` calls it by itself.

    Only the classes of its layers and units change, to the subclasses in `kernels/modules.py`. The
    modules stay the same objects with the same parameters, names and hooks. Results in evaluation
    mode are bit-identical. Results in training differ by rounding. On a GPU nothing changes.

    The C kernels fuse a norm with the following addition and activation, and they compute max
    pools. They compute 3x3 convolutions by Winograd's algorithm (Lavin and Gray, 2015), and those
    in groups of few channels. They need the network and its images in channels_last. Convolutions
    of small maps are computed as matrix products. Operations that the kernels do not support run as
    before.

    Args:
        network: A network of `forebear.create` or `forebear.load`, or a module that contains one.
        winograd: Whether 3x3 convolutions may use Winograd's algorithm, whose sums are rounded
            otherwise than those of a direct convolution.

    Returns:
        One line that says what is used.
    """
    for module in network.modules():
        if type(module) in FAST:
            module.__class__ = FAST[type(module)]
        if isinstance(module, FastConv):
            module.winograd = winograd
    found = library()
    if not isinstance(found, Library):
        return f"convolutions of small maps as matrix products; no C kernels ({found})"
    dtypes = [name for name, dtype in DTYPES.items() if winograd and has_winograd(dtype)]
    tiles = f"; Winograd 3x3 convolutions in {' and '.join(dtypes)}" if dtypes else ""
    return (
        f"C kernels for {found.level}: fused norm, addition and activation; max-pool{tiles}; "
        "convolutions of small maps as matrix products"
    )
