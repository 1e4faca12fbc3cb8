"""LAMB: Adam with the update of each array rescaled to the norm of the array (trust ratio)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from forebear.tasks.train.optim.skippable import SkippableOptimizer, keep


class Lamb(SkippableOptimizer):
    """LAMB (You et al. 2020, algorithm 2), as in timm (timm/optim/lamb.py).

    u = m' / (sqrt(v') + eps) + weight_decay w, where m' and v' are the bias-corrected moments, and
    w -= lr |w| / |u| u. The ratio |w| / |u| is 1 if one of the norms is 0, and, as in timm, for
    parameters without weight decay, such as norms and biases. timm's built-in gradient clipping is
    the recipe's `clip`.
    """

    def __init__(self, params: ParamsT, *, betas: tuple[float, float], eps: float) -> None:
        super().__init__(params, {"lr": 1e-3, "betas": betas, "eps": eps, "weight_decay": 0.0})

    def _move(self, params: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in params if p.grad is not None]
        counts, means, squares = self._moments(params)
        beta1, beta2 = group["betas"]
        kept = keep(gradients, self.found_inf)
        # A list, because torch would read a single tensor off the GPU as a number.
        torch._foreach_add_(counts, [kept] * len(counts))  # type: ignore[list-item]
        torch._foreach_mul_(means, beta1**kept)
        torch._foreach_add_(means, gradients, alpha=1 - beta1)
        torch._foreach_mul_(squares, beta2**kept)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)

        count = torch.stack(counts).clamp(min=1)  # 0 if the first step was skipped
        spreads = list(torch._foreach_sqrt(squares))
        torch._foreach_div_(spreads, (1 - beta2**count).sqrt().unbind())
        torch._foreach_add_(spreads, group["eps"])
        updates = list(torch._foreach_div(means, (1 - beta1**count).unbind()))
        torch._foreach_div_(updates, spreads)
        if group["weight_decay"]:
            torch._foreach_add_(updates, params, alpha=group["weight_decay"])
            torch._foreach_mul_(updates, _ratios(params, updates).unbind())
        torch._foreach_mul_(updates, kept * group["lr"])
        torch._foreach_sub_(params, updates)

    def _moments(self, params: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Returns steps so far, and the means of gradients and of their squares; zeros at first."""
        for parameter in params:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "count": torch.zeros((), device=parameter.device),
                    "mean": torch.zeros_like(parameter),
                    "square": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in params]
        counts, means, squares = (
            [state[name] for state in states] for name in ("count", "mean", "square")
        )
        return counts, means, squares


def _ratios(params: list[Tensor], updates: list[Tensor]) -> Tensor:
    """Returns |w| / |u| of each array, [arrays]; 1 if one of them is 0."""
    lengths = torch.stack(torch._foreach_norm(params))
    moves = torch.stack(torch._foreach_norm(updates))
    return torch.where((lengths > 0) & (moves > 0), lengths / moves, 1.0)
