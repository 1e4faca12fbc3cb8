"""Test-time augmentation with mirror images: the mean of two answers, at twice the time."""

from __future__ import annotations

from torch import Tensor, nn


class MirrorNetwork(nn.Module):
    """A network that answers each image and its mirror image, with the mean of the logits.

    Shape: [N, C, H, W] -> [N, classes]. `forebear.engines.mirror.MirrorEngine` does it on pixels.
    """

    def __init__(self, network: nn.Module) -> None:
        """Wraps a network, and has its mode."""
        super().__init__()
        self.network, self.training = network, network.training

    def forward(self, images: Tensor) -> Tensor:
        """Returns the mean logits."""
        mean: Tensor = (self.network(images) + self.network(images.flip(3))) / 2
        return mean
