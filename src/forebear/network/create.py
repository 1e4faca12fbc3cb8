"""Creates a network with initial weights from a name or a table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import EllipsisType
from typing import Literal, overload

import torch

from forebear.network.backbone import Backbone, refuse_indices
from forebear.network.initialize import initialize
from forebear.network.network import Network
from forebear.network.plan.expand import expand
from forebear.tables.dialects import Dialect
from forebear.tables.files import resolve
from forebear.tables.rows import Table


@overload
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
    features_only: Literal[False] = False,
    out_indices: None = None,
) -> Network: ...


@overload
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
    features_only: Literal[True],
    out_indices: int | Iterable[int] | None = None,
) -> Backbone: ...


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
    features_only: bool = False,
    out_indices: int | Iterable[int] | None = None,
) -> Network | Backbone:
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
        features_only: Return a backbone, as timm does: a module that gives a list of feature maps
            and has `feature_info`. The classifier and the global pool are left out.
        out_indices: The feature maps that a backbone gives. In a ResNet, 0 is the root's activation
            before the max pool, and 1 to 4 are the blocks. Negative indices count from the end, an
            integer n means the last n, and None all of them.

    Raises:
        ValueError: The network or the dialect is unknown, or this network does not support an
            argument.
        TableError: The table cannot be read or built. The message names the row.
    """
    refuse_indices(features_only, out_indices)
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
    return Backbone(net, out_indices) if features_only else net
