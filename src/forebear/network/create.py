"""Creates a network with initial weights from a name or a table."""

from __future__ import annotations

from pathlib import Path
from types import EllipsisType

import torch

from forebear.network.initialize import initialize
from forebear.network.network import Network
from forebear.network.plan.expand import expand
from forebear.tables.dialects import Dialect
from forebear.tables.files import resolve
from forebear.tables.rows import Table


def create(
    network: str | Path | Table,
    *,
    dialect: str | Dialect | None = None,
    num_classes: int | EllipsisType | None = ...,
    in_channels: int = 3,
    output_stride: int | None = None,
    global_pool: bool = True,
    include_root: bool = True,
    generator: torch.Generator | None = None,
) -> Network:
    """Creates a network with the initial weights of its dialect.

    Args:
        network: A name that `forebear.networks` lists, a table, or a .toml or .json file with one.
        dialect: The library whose implementation to follow. None uses the dialect of a published
            network. A table of your own needs a dialect.
        num_classes: The number of classes. By default it is the table's. None removes the
            classifier, and the network returns features.
        in_channels: The number of channels of the images.
        output_stride: The number of input pixels between two neighbouring features. None keeps
            every stride. Otherwise each stride beyond the output stride is replaced by dilation of
            all later layers.
        global_pool: False omits the global pool. The network then returns a map of logits or
            features instead of one vector for each image.
        include_root: False omits everything before block1. The network then takes the input of
            block1.
        generator: The random generator for the initial weights. None uses torch's default.

    Raises:
        ValueError: The network or the dialect is unknown, or this network does not support an
            argument.
        TableError: The table cannot be read or built. The message names the row.
    """
    table, chosen = resolve(network, dialect)
    classes = table.classes if isinstance(num_classes, EllipsisType) else num_classes
    plan = expand(
        table,
        chosen,
        num_classes=classes,
        in_channels=in_channels,
        output_stride=output_stride,
        global_pool=global_pool,
        include_root=include_root,
    )
    with torch.device("meta"):  # skips torch's own initialisation, which is replaced below
        net = Network(plan)
    net.to_empty(device=torch.get_default_device())
    initialize(net, chosen.init, generator)
    return net
