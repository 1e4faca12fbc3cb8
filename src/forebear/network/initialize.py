"""Weight initialisation: the distributions of each dialect, sampled from the caller's generator."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from forebear.network.layers import Logits
from forebear.network.units import UnitV1
from forebear.tables.dialects import Init

Draw = Callable[[Tensor, torch.Generator | None], None]


def _fans(weight: Tensor) -> tuple[int, int]:
    """Returns fan-in and fan-out."""
    area = weight[0, 0].numel() if weight.ndim == 4 else 1
    return weight.shape[1] * area, weight.shape[0] * area


def _slim(weight: Tensor, generator: torch.Generator | None) -> None:
    # tf_slim variance_scaling_initializer(): factor 2, fan-in, truncated at 2 standard deviations.
    std = math.sqrt(1.3 * 2 / _fans(weight)[0])
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)


def _fan_in(weight: Tensor, generator: torch.Generator | None) -> None:
    nn.init.normal_(weight, std=math.sqrt(2 / _fans(weight)[0]), generator=generator)


def _fan_out(weight: Tensor, generator: torch.Generator | None) -> None:
    nn.init.normal_(weight, std=math.sqrt(2 / _fans(weight)[1]), generator=generator)


def _glorot(weight: Tensor, generator: torch.Generator | None) -> None:
    bound = math.sqrt(6 / sum(_fans(weight)))
    nn.init.uniform_(weight, -bound, bound, generator=generator)


def _torch(weight: Tensor, generator: torch.Generator | None) -> None:
    bound = 1 / math.sqrt(_fans(weight)[0])  # torch.nn.Conv2d and Linear: reset_parameters
    nn.init.uniform_(weight, -bound, bound, generator=generator)


def _fc6_to_fc8(weight: Tensor, generator: torch.Generator | None) -> None:
    # tf_slim/nets/alexnet.py, trunc_normal(0.005)
    nn.init.trunc_normal_(weight, std=0.005, a=-0.01, b=0.01, generator=generator)


def _small_normal(weight: Tensor, generator: torch.Generator | None) -> None:
    nn.init.normal_(weight, std=0.01, generator=generator)  # timm/models/resnetv2.py: head.fc


@dataclass(frozen=True, slots=True)
class _Scheme:
    """The distributions of the weights and biases."""

    convs: Draw
    logits: Draw
    fully: Draw  # fully connected layers in the form of convolutions: fc6, fc7
    bias: float = 0.0  # constant bias of the convolutions
    torch_bias: bool = False  # torch's uniform distribution for all biases instead
    zero_last: bool = False  # zero-initialises the last norm of each version 1 unit


SCHEMES: dict[Init, _Scheme] = {
    "slim": _Scheme(_slim, _slim, _slim),
    "slim-alexnet": _Scheme(_glorot, _fc6_to_fc8, _fc6_to_fc8, bias=0.1),
    "glorot": _Scheme(_glorot, _glorot, _glorot),
    "torchvision": _Scheme(_fan_out, _torch, _torch, torch_bias=True),
    "torchvision-alexnet": _Scheme(_torch, _torch, _torch, torch_bias=True),
    "timm": _Scheme(_fan_out, _torch, _torch, torch_bias=True, zero_last=True),
    "timm-v2": _Scheme(_fan_out, _small_normal, _small_normal),
    "fan-in": _Scheme(_fan_in, _fan_in, _fan_in),
    "fan-out": _Scheme(_fan_out, _torch, _torch),
}


def initialize(network: nn.Module, init: Init, generator: torch.Generator | None = None) -> None:
    """Initialises the weights like the dialect's original library. Norms start as the identity.

    The generator must be on the network's device. None uses torch's default generator.
    """
    scheme = SCHEMES[init]
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d | Logits):
            logits = isinstance(module, Logits)
            draw = scheme.fully if name.startswith("fc") else scheme.convs
            (scheme.logits if logits else draw)(module.weight, generator)
            if module.bias is not None and scheme.torch_bias:
                bound = 1 / math.sqrt(_fans(module.weight)[0])
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
            elif module.bias is not None:
                nn.init.constant_(module.bias, 0.0 if logits else scheme.bias)
    if scheme.zero_last:  # timm/models/resnet.py, zero_init_last
        zero_last_norms(network)


def zero_last_norms(network: nn.Module) -> None:
    """Sets the scale of the last norm in each version 1 unit to zero.

    Each unit then starts as its shortcut (Goyal et al. 2017, section 5.1).
    """
    for module in network.modules():
        if isinstance(module, UnitV1):
            nn.init.zeros_(module.get_submodule(module.convs[-1]).get_parameter("norm.weight"))


@torch.no_grad()
def start_at(network: nn.Module, odds: Tensor) -> None:
    """Sets the biases of the logits so that the first probabilities are those of the labels.

    Otherwise each rare label starts at 0.5, and its many negative images are most of the first
    losses (Lin et al. 2017, "Focal loss for dense object detection", section 3.3).

    Args:
        network: Multi-label, with random logits.
        odds: [classes] of images with each label to images without it, positive.
    """
    bias = network.get_submodule("logits").get_parameter("bias")
    bias.copy_(odds.log().clamp(-6, 6).to(bias))
