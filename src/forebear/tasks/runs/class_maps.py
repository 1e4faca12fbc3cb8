"""Class activation maps: which places of an image speak for a class.

In a network with global average pooling followed by the logits, the logit of a class is the mean
over the places of `weights of the class x features there`. The map shows these products
(Zhou et al. 2016, "Learning deep features for discriminative localization", section 2).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from forebear.network.network import Network

_RED = np.array((179, 38, 30), np.float32)
_MOST = 0.75  # opacity of the largest value of a map
_LUMA = np.array((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The logits of some images, and the last feature map if class activation maps are possible."""

    logits: NDArray[np.float32]  # [n, classes]
    features: Tensor | None  # [n, C, h, w], before the global pooling

    def maps(self, network: Network, shape: tuple[int, int]) -> NDArray[np.float32] | None:
        """Returns the maps [n, H, W] of the most probable classes, 0 to 1; None without features.

        The largest value of an image is 1. Places that speak against the class are 0.

        Args:
            network: That gave the answers.
            shape: H and W in pixels.
        """
        if self.features is None:
            return None
        logits = network.get_submodule("logits")
        assert isinstance(logits, nn.Linear)
        chosen = torch.from_numpy(self.logits.argmax(1)).to(self.features.device)
        weights = logits.weight.detach()[chosen].to(self.features.dtype)  # [n, C]
        found = F.relu(torch.einsum("nchw,nc->nhw", self.features, weights)).float()
        found = F.interpolate(found[:, None], shape, mode="bilinear", align_corners=False)[:, 0]
        most = found.amax((1, 2), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        maps: NDArray[np.float32] = (found / most).cpu().numpy()
        return maps


def has_maps(network: Network) -> bool:
    """Whether the network has blocks, then global pooling, then the logits; AlexNet has not."""
    head = [layer.kind for layer in network.plan.head()]
    return bool(network.plan.blocks) and head[-2:] == ["mean", "logits"]


def answers(network: Network, images: Tensor) -> Answers:
    """Returns what a network answers in evaluation mode; its modes are the same afterwards.

    Args:
        network: With a classifier.
        images: [n, in_channels, H, W], as the network takes them.
    """
    seen: list[Tensor] = []
    hooks = []
    if has_maps(network):
        pool = network.get_submodule("pool")
        hooks.append(pool.register_forward_pre_hook(lambda _, given: seen.append(given[0])))
    try:
        with torch.no_grad(), _evaluating(network):
            logits = network(images).float().cpu().numpy()
    finally:
        for hook in hooks:
            hook.remove()
    fits = bool(seen) and seen[0].shape[2] * seen[0].shape[3] > 1
    return Answers(logits, seen[0].detach() if fits else None)


def overlaid(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Returns a grey copy of an image with a map over it in red.

    Args:
        pixels: [H, W, C] with 1 or 3 channels.
        heat: [H, W], 0 to 1.

    Returns:
        RGB [H, W, 3].
    """
    values = pixels.astype(np.float32)
    grey = values @ _LUMA if values.shape[2] == 3 else values[:, :, 0]
    share = (_MOST * heat)[:, :, None]
    mixed = (1 - share) * grey[:, :, None] + share * _RED
    rounded: NDArray[np.uint8] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return rounded


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
