"""Small networks with lively weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import forebear
from forebear import Block, Conv, Dialect, Pool, Table
from forebear.network.calibration import Calibration
from forebear.tables.rows import Form

ROOT = (Conv("conv1", 8, 7, stride=2), Pool("pool1"))
SMALL_ROOT = (Conv("conv1", 8, 3),)


def table(form: Form = "bottleneck", root: Any = ROOT, **options: Any) -> Table:
    """Four blocks with everything that can go wrong in them: groups, rates, single units."""
    wider = 2 if form == "bottleneck" else 1
    blocks = tuple(
        Block(
            f"block{n}",
            units,
            4 * 2**n,
            4 * 2**n * wider,
            stride,
            groups=4 if n == 3 and form == "bottleneck" else 1,
            rate=2 if n == 2 else 1,
        )
        for n, (units, stride) in enumerate(((2, 1), (3, 2), (1, 3), (2, 2)), start=1)
    )
    return Table("small", root, form, blocks, **options)


def lively(net: forebear.Network, seed: int = 0) -> forebear.Network:
    """The network with random running values and biases, so that none of them can hide."""
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.5, generator=draws)
                module.running_var.uniform_(0.5, 2, generator=draws)
                module.weight.uniform_(0.5, 1.5, generator=draws)
                module.bias.normal_(0, 0.1, generator=draws)
            elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                module.bias.normal_(0, 0.1, generator=draws)
    return net.eval()


def make(
    network: str | Table = "", dialect: str | Dialect | None = None, **options: Any
) -> forebear.Network:
    """A lively network from a fixed seed; the small table where none is named."""
    draws = torch.Generator().manual_seed(0)
    if not network:
        network, dialect = table(), dialect or "slim-v1"
    return lively(forebear.create(network, dialect=dialect, generator=draws, **options))


# A calibration of any network
FITTED = Calibration(
    temperature=2.0, threshold=0.5, unknown_rate=0.05, images=99, ece_before=0.1, ece_after=0.0
)
