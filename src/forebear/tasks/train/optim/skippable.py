"""Steps that are left out because a gradient is not finite, without the host waiting for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class SkippableOptimizer(torch.optim.Optimizer, ABC):
    """What torch lacks moves a group of parameters at a time; a step can be left out."""

    found_inf: Tensor | None = None  # 1.0 leaves the step out, on the device

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Moves every parameter that has a gradient.

        Args:
            closure: taken for torch's sake; never called.
        """
        for group in self.param_groups:
            params = [parameter for parameter in group["params"] if parameter.grad is not None]
            if params:
                self._move(params, group)

    @abstractmethod
    def _move(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """Moves parameters that all have a gradient, by the settings of their group."""


def keep(gradients: Sequence[Tensor], found_inf: Tensor | None) -> Tensor | float:
    """1.0 for a step that counts, 0.0 for one that is left out, on the gradients' device.

    Whoever multiplies by the share and by `decay ** share` moves nothing in a step left out. The
    gradients are then zeros: no share makes a NaN finite.

    Args:
        gradients: zeroed in place where the step is left out.
        found_inf: 1.0 where one of them is not finite, else 0.0, as torch's fused optimizers take
            it; None counts the step.
    """
    if found_inf is None:
        return 1.0
    bad = found_inf.reshape(()).to(torch.bool)
    for gradient in gradients:
        gradient.masked_fill_(bad, 0.0)
    return 1.0 - found_inf.reshape(())
