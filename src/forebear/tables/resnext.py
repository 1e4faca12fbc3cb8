"""ResNeXt: Xie et al. 2016, table 1 (ImageNet) and section 5.3 (CIFAR)."""

from __future__ import annotations

from forebear.tables.resnet import HE_2015, IMAGENET_ROOT, UNITS, cifar_root
from forebear.tables.rows import Block, Table

XIE_2016 = "Xie et al. 2016 (arXiv 1611.05431)"


def _blocks(units: tuple[int, ...], groups: int, group_width: int) -> tuple[Block, ...]:
    return tuple(
        Block(
            f"block{n}",
            count,
            groups * group_width * 2 ** (n - 1),
            256 * 2 ** (n - 1),
            stride=min(n, 2),
            groups=groups,
        )
        for n, count in enumerate(units, start=1)
    )


def imagenet(name: str, depth: int, groups: int, group_width: int) -> Table:
    """Returns the ResNeXt of a given depth.

    Args:
        name: The name of the table.
        depth: The number of layers: 50, 101 or 152.
        groups: The cardinality: 32 in "32x4d".
        group_width: The channels of each group in the first block: 4 in "32x4d".
    """
    source = f"{XIE_2016}, table 1"
    if depth != 50:  # the paper's table lists 50 layers only
        source += f"; {HE_2015}, table 1, units of {depth} layers"
    blocks = _blocks(UNITS[depth], groups, group_width)
    return Table(name, IMAGENET_ROOT, "bottleneck", blocks, source=source)


def cifar(name: str, groups: int, group_width: int) -> Table:
    """Returns a ResNeXt-29: three blocks of three units, with 256 to 1024 channels.

    It has 9n + 2 layers with n = 3.
    """
    blocks = _blocks((3, 3, 3), groups, group_width)
    source = f"{XIE_2016}, section 5.3"
    return Table(
        name, cifar_root(64), "bottleneck", blocks, classes=10, image_size=32, source=source
    )
