"""Muon: momentum that is made orthogonal before it updates the filters."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.optimizer import ParamsT
from torch.optim.sgd import sgd

from forebear.tasks.machine.device import fastest_dtype
from forebear.tasks.train.optim.skippable import SkippableOptimizer, keep
from forebear.tasks.train.recipe import Recipe

# The polynomial a x + b x^3 + c x^5 moves singular values to between 0.7 and 1.2 within 5 steps
# (Jordan 2024, "Muon: an optimizer for hidden layers in neural networks").
COEFFICIENTS = 3.4445, -4.7750, 2.0315


class Muon(SkippableOptimizer):
    """Muon (Jordan 2024) for the groups with `filters`, and SGD or Adam for the others.

    v = momentum v + g, and u = g + momentum v with Nesterov momentum, else u = v. Filters are
    matrices [out, in * height * width]. Their update is w -= lr (sqrt(max(1, rows / columns)) o +
    weight_decay w), where o is u with all singular values near 1. torch.optim.Muon does this for
    matrices only, one at a time; this class computes all filters of one shape together. Filters can
    be rescaled to the norm sqrt(out) before each update (KellerJordan/cifar10-airbench,
    airbench94_muon.py).
    """

    def __init__(self, params: ParamsT, recipe: Recipe) -> None:
        defaults = {"lr": recipe.lr, "weight_decay": 0.0, "filters": False}
        super().__init__(params, defaults)
        self.recipe = recipe
        for group in self.param_groups:
            adam = recipe.other_optimizer == "adam" and not group["filters"]
            for parameter in group["params"]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
                if adam:
                    self.state[parameter]["square_buffer"] = torch.zeros_like(parameter)
                    self.state[parameter]["step"] = torch.zeros((), device=parameter.device)

    def _move(self, params: list[Tensor], group: dict[str, Any]) -> None:
        if group["filters"]:
            self._update_filters(params, group)
        elif self.recipe.other_optimizer == "adam":
            self._update_by_adam(params, group)
        else:
            self._update_by_sgd(params, group)

    def _update_filters(self, params: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in params if p.grad is not None]
        momenta = [self.state[parameter]["momentum_buffer"] for parameter in params]
        kept = keep(gradients, self.found_inf)
        torch._foreach_mul_(momenta, self.recipe.momentum**kept)
        torch._foreach_add_(momenta, gradients)
        moves = momenta
        if self.recipe.nesterov:
            moves = list(torch._foreach_add(gradients, momenta, alpha=self.recipe.momentum))
        rate = kept * group["lr"]
        if self.recipe.rescale:
            self._rescale(params, kept)
        torch._foreach_mul_(params, 1 - rate * group["weight_decay"])
        shapes = defaultdict(list)
        for parameter, move in zip(params, moves, strict=True):
            shapes[parameter.shape].append((parameter, move))
        for members in shapes.values():
            stacked = torch.stack([m.flatten(1) for _, m in members])
            dtype = fastest_dtype(stacked.device)
            matrices = orthogonal(stacked, self.recipe.newton_schulz_steps, dtype=dtype)
            scale = rate * max(1.0, matrices.shape[1] / matrices.shape[2]) ** 0.5
            for (parameter, _), matrix in zip(members, matrices, strict=True):
                parameter.sub_(matrix.view(parameter.shape) * scale)

    @staticmethod
    def _rescale(params: list[Tensor], kept: Tensor | float) -> None:
        """Rescales filters [out, ...] to the norm sqrt(out), unless the step is skipped."""
        norms = torch._foreach_norm(params)
        factors = [(len(p) ** 0.5 / n) ** kept for p, n in zip(params, norms, strict=True)]
        torch._foreach_mul_(params, factors)

    def _update_by_adam(self, params: list[Tensor], group: dict[str, Any]) -> None:
        fused, state = params[0].is_cuda, [self.state[parameter] for parameter in params]
        adam(
            [parameter.detach() for parameter in params],
            [p.grad for p in params if p.grad is not None],
            [one["momentum_buffer"] for one in state],
            [one["square_buffer"] for one in state],
            [],
            [one["step"] for one in state],
            fused=fused,
            foreach=not fused,
            found_inf=self.found_inf,
            decoupled_weight_decay=True,
            amsgrad=False,
            beta1=self.recipe.beta1,
            beta2=self.recipe.beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=self.recipe.eps,
            maximize=False,
        )

    def _update_by_sgd(self, params: list[Tensor], group: dict[str, Any]) -> None:
        fused = params[0].is_cuda
        sgd(
            [parameter.detach() for parameter in params],
            [p.grad for p in params if p.grad is not None],
            [self.state[parameter]["momentum_buffer"] for parameter in params],
            fused=fused,
            foreach=not fused,
            found_inf=self.found_inf,
            weight_decay=group["weight_decay"],
            momentum=self.recipe.momentum,
            lr=group["lr"],
            dampening=0.0,
            nesterov=self.recipe.nesterov,
            maximize=False,
        )


def orthogonal(matrices: Tensor, rounds: int = 5, *, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Returns the matrices with all singular values near 1, by a Newton-Schulz iteration.

    Args:
        matrices: [n, rows, columns].
        rounds: Steps of the iteration; 5 in Jordan 2024.
        dtype: Of the products. Jordan 2024 uses bfloat16. A CPU without bfloat16 instructions
            multiplies it several hundred times slower than float32.

    Returns:
        [n, rows, columns], in `dtype`.
    """
    a, b, c = COEFFICIENTS
    x = matrices.to(dtype)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x  # so that the products have the size of the shorter side
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(rounds):
        square = x @ x.mT
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x
