"""Stochastic depth: units that images skip at random during training."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from forebear.network.network import Network
from forebear.network.units import UnitV1, UnitV2


def apply_stochastic_depth(network: Network, rate: float) -> None:
    """Adds hooks by which images skip units at random during training, later units more often.

    The probability rises linearly from 0 in the first unit (Huang et al. 2016, section 3). Outputs
    that are kept are divided by the probability to be kept, as in timm's drop path, so that nothing
    changes in evaluation.

    Args:
        network: Has residual units. It is changed in place.
        rate: Probability that an image skips the last unit.

    Raises:
        ValueError: The network has no residual units.
    """
    units = [module for module in network.modules() if isinstance(module, UnitV1 | UnitV2)]
    if not units:
        raise ValueError(
            f"stochastic_depth={rate:g}: {network.table.name} has no residual units to skip. "
            "Expected 0. Leave it out."
        )
    for unit, part in zip(units, torch.linspace(0, rate, len(units)).tolist(), strict=True):
        if part:
            last = unit.get_submodule(unit.convs[-1])
            last.register_forward_hook(partial(_skip, rate=part))


def _skip(module: nn.Module, _: tuple[Tensor, ...], output: Tensor, *, rate: float) -> Tensor:
    if not module.training:
        return output
    drawn = torch.rand(len(output), 1, 1, 1, device=output.device) >= rate
    return output * (drawn / (1 - rate)).to(output.dtype)
