"""Stochastic depth: units that are left out by chance while the network trains."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from forebear.network.network import Network
from forebear.network.units import UnitV1, UnitV2


def apply_stochastic_depth(network: Network, share: float) -> None:
    """Lets each picture pass by some units, fewer of the first and `share` of the last.

    Huang et al. 2016, section 3, with the linear rule; what is kept is divided by its share, as
    timm's drop path does, so that nothing changes in evaluation. In place, by hooks.

    Args:
        network: of residual units.
        share: of the pictures that the last unit is left out for.

    Raises:
        ValueError: the network has no residual units.
    """
    units = [module for module in network.modules() if isinstance(module, UnitV1 | UnitV2)]
    if not units:
        raise ValueError(
            f"stochastic_depth={share:g}: {network.table.name} has no residual units to leave "
            "out. Expected 0."
        )
    for unit, part in zip(units, torch.linspace(0, share, len(units)).tolist(), strict=True):
        if part:
            last = unit.get_submodule(unit.convs[-1])
            last.register_forward_hook(partial(_thinned, share=part))


def _thinned(module: nn.Module, _: tuple[Tensor, ...], output: Tensor, *, share: float) -> Tensor:
    if not module.training:
        return output
    drawn = torch.rand(len(output), 1, 1, 1, device=output.device) >= share
    return output * (drawn / (1 - share)).to(output.dtype)
