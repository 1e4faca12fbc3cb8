"""SGD in Caffe's form, with which He et al. trained their networks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from forebear.tasks.train.optim.skippable import SkippableOptimizer, keep


class Caffe(SkippableOptimizer):
    """v = momentum v + lr (g + weight_decay w); w -= v.

    See KaimingHe/deep-residual-networks (README). torch's form, v = momentum v + g, w -= lr v, is
    equal while the learning rate is constant. After a drop of the learning rate to a tenth, torch
    scales the old momentum by a tenth, while Caffe keeps it.
    """

    def __init__(self, params: ParamsT, *, momentum: float) -> None:
        super().__init__(params, {"lr": 1e-3, "momentum": momentum, "weight_decay": 0.0})
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def _move(self, params: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in params if p.grad is not None]
        momenta = [self.state[parameter]["momentum_buffer"] for parameter in params]
        kept = keep(gradients, self.found_inf)
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, params, alpha=group["weight_decay"]))
        torch._foreach_mul_(momenta, group["momentum"] ** kept)
        torch._foreach_add_(momenta, list(torch._foreach_mul(gradients, kept * group["lr"])))
        torch._foreach_sub_(params, list(torch._foreach_mul(momenta, kept)))
