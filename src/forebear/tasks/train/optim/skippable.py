"""Optimizers whose steps can be skipped on the device, without the host waiting for a gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class SkippableOptimizer(torch.optim.Optimizer, ABC):
    """Base class of the optimizers that torch lacks; a step can be skipped."""

    found_inf: Tensor | None = None  # on the device; 1.0 skips the step

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient.

        Args:
            closure: Part of torch's interface; never called.
        """
        for group in self.param_groups:
            params = [parameter for parameter in group["params"] if parameter.grad is not None]
            if params:
                self._move(params, group)

    @abstractmethod
    def _move(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """Updates parameters that all have a gradient, by the settings of their group."""


def keep(gradients: Sequence[Tensor], found_inf: Tensor | None) -> Tensor | float:
    """Returns 1.0 for a step that counts and 0.0 for a skipped one, on the gradients' device.

    An update that is multiplied by this factor, with decays raised to its power, changes nothing in
    a skipped step. The gradients of a skipped step are zeroed, as no factor makes a NaN finite.

    Args:
        gradients: Zeroed in place if the step is skipped.
        found_inf: 1.0 if one of them is not finite, else 0.0, as for torch's fused optimizers. None
            means that the step counts.
    """
    if found_inf is None:
        return 1.0
    bad = found_inf.reshape(()).to(torch.bool)
    for gradient in gradients:
        gradient.masked_fill_(bad, 0.0)
    return 1.0 - found_inf.reshape(())
