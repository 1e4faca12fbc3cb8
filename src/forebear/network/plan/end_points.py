"""End points: the names of a network's intermediate tensors, and the hooks that collect them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from forebear.network.plan.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor, nn


def end_points(plan: Plan) -> list[str]:
    """Returns the paths of all end points in execution order. `predictions` comes last."""
    paths = [layer.path for layer in (*plan.root, *plan.body) if layer.kind != "dropout"]
    for block, units in plan.blocks:
        for unit in units:
            paths += [layer.path for layer in unit.layers() if layer.kind != "identity"]
            paths.append(unit.path)
        paths.append(block)
    paths += [layer.path for layer in plan.head()]
    if plan.logits is not None:
        paths.append("predictions")
    return paths


@contextmanager
def kept(network: nn.Module, paths: Mapping[str, str]) -> Iterator[dict[str, Tensor]]:
    """Fills a dict while the network runs: {key: output of the module at paths[key]}.

    No other outputs are kept. Concurrent calls of the network from other threads do not affect it.
    """
    found: dict[str, Tensor] = {}
    thread = threading.get_ident()

    def keep(key: str) -> Any:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if threading.get_ident() == thread:
                found[key] = output

        return hook

    handles = [
        network.get_submodule(path).register_forward_hook(keep(key)) for key, path in paths.items()
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def pyramid(plan: Plan) -> dict[int, str]:
    """Returns {stride: path of the last feature map at that stride}, from the root's stride on."""
    stride = 1
    for layer in plan.root:
        stride *= layer.stride
    maps = {stride: plan.root[-1].path} if plan.root else {}
    for layer in plan.body:
        stride *= layer.stride
        if layer.kind in ("conv", "pool"):
            maps[stride] = layer.path
    for unit in plan.units():
        stride *= unit.stride
        maps[stride] = unit.path
    if plan.postnorm is not None:
        maps[stride] = plan.postnorm.path
    return maps
