"""A small network and arrays under its original names."""

from __future__ import annotations

from typing import Any

import forebear
from forebear.weights.variable_names import pairs
from tests.goldens import recipe


def small(dialect: str = "slim-v1") -> forebear.Network:
    blocks = (forebear.Block("block1", 1, 4, 16), forebear.Block("block2", 2, 4, 16, 2))
    root = (forebear.Conv("conv1", 8, 3, 2), forebear.Pool("pool1"))
    return forebear.create(forebear.Table("net", root, blocks=blocks), dialect=dialect)


def given(net: forebear.Network) -> dict[str, Any]:
    return {pair.theirs: recipe.weights(pair.theirs, pair.their_shape) for pair in pairs(net.plan)}
