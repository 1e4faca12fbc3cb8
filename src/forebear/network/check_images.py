"""Checks the images that a network is called with."""

from __future__ import annotations

from torch import Tensor

from forebear.network.plan.cost import check_size
from forebear.network.plan.plan import Plan


def check_images(images: object, plan: Plan, smallest: int) -> None:
    """Checks that a network can take a batch of images.

    Args:
        images: What the network was called with.
        plan: The plan of the network.
        smallest: The smallest side in pixels that the network can take.

    Raises:
        TypeError: The images are not a tensor of floats.
        ValueError: The rank or the number of channels is wrong, or the images are too small.
    """
    if not isinstance(images, Tensor):
        raise TypeError(
            f"images of type {type(images).__name__}: expected a tensor [N, "
            f"{plan.in_channels}, H, W] of floats. Convert it with torch.as_tensor(images)."
        )
    if images.ndim != 4 or images.shape[1] != plan.in_channels:
        hint = "Add a batch dimension: images[None]." if images.ndim == 3 else ""
        if images.ndim == 4 and images.shape[3] == plan.in_channels:
            hint = "Move the channels to dimension 1: images.permute(0, 3, 1, 2)."
        raise ValueError(
            f"images of shape {list(images.shape)}: {plan.table.name} expects "
            f"[N, {plan.in_channels}, H, W]. "
            + (hint or "For images with other channels, pass in_channels to forebear.create.")
        )
    if not images.is_floating_point():
        raise TypeError(
            f"images of dtype {images.dtype}: expected floats, preprocessed as described by "
            "net.preprocessing. Use net.preprocess, or scale the images and pass floats."
        )
    if images.shape[2] < smallest or images.shape[3] < smallest:
        check_size(plan, images.shape[2], images.shape[3])
