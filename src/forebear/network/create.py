"""From a name or a table to a network with first weights."""

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
    """A network with its dialect's first weights.

    Args:
        network: a name that `forebear.networks` gives, a table, or a .toml or .json file of one.
        dialect: how to build it; None takes a published network's own, and a table needs one.
        num_classes: None gives the features before the logits; left out, the table's own classes.
        in_channels: of the images.
        output_stride: input pixels between neighbouring features; None takes every stride. A
            stride that is not taken multiplies the rate of everything after it.
        global_pool: False gives a map of logits (or features) in place of one vector an image.
        include_root: False leaves out all before block1; the images are then its input.
        generator: draws the first weights; None takes torch's own.

    Raises:
        ValueError: an unknown network or dialect, or arguments that this network cannot have.
        TableError: a table that cannot be read or built; the message names the row.
    """
    table, spoken = resolve(network, dialect)
    classes = table.classes if isinstance(num_classes, EllipsisType) else num_classes
    spelled = expand(
        table,
        spoken,
        num_classes=classes,
        in_channels=in_channels,
        output_stride=output_stride,
        global_pool=global_pool,
        include_root=include_root,
    )
    with torch.device("meta"):  # torch would draw every weight, to be drawn again below
        net = Network(spelled)
    net.to_empty(device=torch.get_default_device())
    initialize(net, spoken.init, generator)
    return net
