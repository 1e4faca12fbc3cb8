"""Creates the recipe's optimizer, with a group for every learning rate and weight decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from forebear.network.network import Network
from forebear.tasks.train.optim.caffe_sgd import Caffe
from forebear.tasks.train.optim.lamb import Lamb
from forebear.tasks.train.optim.muon import Muon
from forebear.tasks.train.recipe import Recipe


def make_optimizer(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    """Returns the optimizer of a network.

    Each group has its peak learning rate as "peak"; a schedule sets "lr" to a fraction of it.

    Args:
        network: On the device and in the memory format in which it will be trained.
        recipe: Resolved.
    """
    groups = _groups(network, recipe)
    fused = all(parameter.is_cuda for parameter in network.parameters())
    how: dict[str, bool] = {"fused": fused, "foreach": not fused}
    betas = recipe.momentum, recipe.beta2
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "adam":
        optimizer = torch.optim.Adam(groups, betas=betas, eps=recipe.eps, **how)
    elif recipe.optimizer == "adamw":
        optimizer = torch.optim.AdamW(groups, betas=betas, eps=recipe.eps, **how)
    elif recipe.optimizer == "lamb":
        optimizer = Lamb(groups, betas=betas, eps=recipe.eps)
    elif recipe.optimizer == "muon":
        optimizer = Muon(groups, recipe)
    elif recipe.optimizer == "caffe":
        optimizer = Caffe(groups, momentum=recipe.momentum)
    else:
        optimizer = torch.optim.SGD(
            groups, momentum=recipe.momentum, nesterov=recipe.nesterov, **how
        )
        _rest(optimizer)
    if not fused and isinstance(optimizer, torch.optim.SGD | torch.optim.Adam):
        optimizer.register_step_pre_hook(_choose)
    optimizer.register_load_state_dict_post_hook(_lay_out)
    return optimizer


def _choose(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Uses fused kernels on a CPU if all gradients have the memory order of their parameters.

    Fused kernels ignore strides, and are wrong if they differ (torch 2.13).
    """
    for group in optimizer.param_groups:
        alike = all(p.grad is None or _order(p.grad) == _order(p) for p in group["params"])
        group["fused"], group["foreach"] = alike, not alike


def _order(array: Tensor) -> list[int]:
    """Returns the strides of the axes longer than 1."""
    return [step for step, length in zip(array.stride(), array.shape, strict=True) if length > 1]


def _groups(network: Network, recipe: Recipe) -> list[dict[str, Any]]:
    """Returns groups of parameters with equal learning rate and decay, in the network's order."""
    logits = {
        id(parameter)
        for row in network.plan.head()
        if row.kind == "logits"
        for parameter in network.get_submodule(row.path).parameters()
    }
    groups: dict[tuple[float, float, bool], list[Tensor]] = {}
    for parameter in network.parameters():
        head = id(parameter) in logits
        filters = recipe.optimizer == "muon" and parameter.ndim == 4 and not head
        peak = recipe.lr if filters or recipe.optimizer != "muon" else recipe.other_lr or recipe.lr
        peak *= 1.0 if head else recipe.backbone_lr_scale
        decays = recipe.decay_on == "all" or parameter.ndim > 1
        key = peak, recipe.weight_decay if decays else 0.0, filters
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": params, "lr": peak, "peak": peak, "weight_decay": decay, "filters": filters}
        for (peak, decay, filters), params in groups.items()
    ]


def _rest(optimizer: torch.optim.Optimizer) -> None:
    """Creates momenta of 0, which torch would create in the first step; it may be skipped."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Copies a loaded state into the memory order of its parameters, for fused kernels."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
