"""Adapts the first convolution of a checkpoint for colours to images of other channels."""

from __future__ import annotations

import torch
from torch import Tensor

from forebear.network.network import Network

COLOURS = 3  # channels of the checkpoints that can be adapted


def first_kernel(network: Network) -> str:
    """Returns the name of the kernel of the first convolution in the network's state_dict."""
    first = next(layer for layer in network.plan.layers() if layer.kind == "conv")
    return f"{first.path}.conv.weight"


def adapt_channels(kernel: Tensor, channels: int, *, order: str) -> Tensor:
    """Returns a kernel [out, channels, H, W] for other channels, from one for three colours.

    One channel gets the sum over the colours, so that a grey image has the same result as in three
    equal channels. More channels get the colours in turn, times 3 / channels, so that the response
    to equal channels is the same on average. This is `adapt_input_conv` of timm
    (timm/models/_manipulate.py). Of a checkpoint in BGR the filters are put in the order RGB first,
    as the first three channels of a file are mostly these.

    Args:
        kernel: [out, 3, H, W].
        channels: 1 or more.
        order: Of the colours in the checkpoint: RGB or BGR.

    Raises:
        ValueError: The kernel is not for three channels, or `channels` is less than 1.
    """
    if kernel.ndim != 4 or kernel.shape[1] != COLOURS or channels < 1:
        raise ValueError(
            f"kernel {list(kernel.shape)} for {channels} channels: expected a kernel [out, "
            f"{COLOURS}, H, W] and one channel or more. Pass the kernel of a first convolution."
        )
    if order == "BGR":
        kernel = kernel.flip(1)
    if channels == 1:
        return kernel.sum(1, keepdim=True)
    turns = torch.arange(channels, device=kernel.device) % COLOURS
    return kernel[:, turns] * (COLOURS / channels)
