"""Networks and state dicts in the forms that trainers save."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

import forebear
from tests.network.making import make

State = dict[str, Tensor]
NETWORK = make("paper/resnet20", num_classes=5)
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def state(network: forebear.Network = NETWORK) -> State:
    """The weights under the names of the network's library."""
    from forebear.weights.variable_names import pairs

    ours = network.state_dict()
    return {pair.theirs: ours[pair.ours].clone() for pair in pairs(network.plan)}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> State:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def body() -> State:
    return {name: one for name, one in state().items() if not name.startswith("linear.")}


def head(name: str) -> State:
    own = state()
    return {f"{name}.weight": own["linear.weight"], f"{name}.bias": own["linear.bias"]}


def shifted() -> State:
    """Other weights of the same network, so that a wrong choice shows."""
    return {name: one + 0.125 if one.is_floating_point() else one for name, one in state().items()}


def logits(network: forebear.Network) -> Tensor:
    with torch.inference_mode():
        found: Tensor = network.eval()(IMAGES)
    return found


def is_ours(network: forebear.Network) -> bool:
    """Whether a network computes what `NETWORK` does."""
    return torch.equal(logits(network), logits(NETWORK))


def saved(folder: Path, content: object) -> Path:
    path = folder / "a.pth"
    torch.save(content, path)
    return path
