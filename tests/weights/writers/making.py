"""Networks whose weights and running values are random."""

from __future__ import annotations

import torch

import forebear


def random_network(
    table: forebear.Table, dialect: forebear.Dialect, num_classes: int | None
) -> forebear.Network:
    torch.manual_seed(0)
    network = forebear.create(table, dialect=dialect, num_classes=num_classes)
    for name, one in network.state_dict().items():
        if "num_batches" not in name:
            one.copy_(torch.rand_like(one) + 0.2 if "var" in name else 0.3 * torch.randn_like(one))
    return network.eval()
