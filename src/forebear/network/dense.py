"""Measures how well a dilated network agrees with the nominal one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from forebear.network.plan.expand import expand

if TYPE_CHECKING:
    from forebear.network.network import Network


@torch.no_grad()
def dense_error(
    nominal: Network, dense: Network, *, size: tuple[int, int] | None, seed: int
) -> float:
    """Runs both networks on one random image, and compares their features.

    The features of the dilated network are subsampled by k, the ratio of the two strides.

    Args:
        nominal: The network with its nominal stride, without the global pool.
        dense: The same network with a smaller output stride.
        size: The height and width of the image in pixels. None uses two different odd sides near
            the published size.
        seed: The seed of the random image.

    Returns:
        The largest `|dense[::k] - nominal|`, divided by the largest `|nominal|`. If the shapes
        differ, infinity.
    """
    smallest = nominal.smallest_side
    side = max(nominal.table.image_size, smallest)
    height, width = size or (side + 1, side - side // 4 + 1 if side > 128 else side + 5)
    height, width = max(height, smallest), max(width, smallest)
    weight = next(nominal.parameters())
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(1, nominal.plan.in_channels, height, width, generator=generator)
    image = image.to(weight.device, weight.dtype)
    expected, found = nominal(image), dense(image)
    k = nominal.plan.stride // dense.plan.stride
    picked = found[:, :, ::k, ::k]
    if picked.shape != expected.shape:
        return float("inf")
    scale = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    return float((picked - expected).abs().max() / scale)


def at_stride(network: Network, output_stride: int | None) -> Network:
    """Returns the network at another output stride, without the pool, in evaluation mode."""
    old = network.plan
    plan = expand(
        old.table,
        old.dialect,
        num_classes=old.num_classes,
        in_channels=old.in_channels,
        output_stride=output_stride,
        global_pool=False,
        include_root=old.include_root,
        folded=old.folded,
    )
    with torch.device("meta"):
        twin = type(network)(plan)
    twin.load_state_dict(network.state_dict(), assign=True)
    return twin.eval()
