"""Finds the end points of a network by name, and collects their tensors with forward hooks."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from forebear.errors import near_misses
from forebear.network.plan.end_points import end_points
from forebear.network.plan.layer_names import original_end_points

if TYPE_CHECKING:
    from forebear.network.network import Network


def collect(network: Network, images: Tensor, paths: Mapping[str, str]) -> dict[str, Tensor]:
    """Runs the network and returns {key: tensor of the end point at paths[key]}."""
    modules = {key: "logits" if path == "predictions" else path for key, path in paths.items()}
    with kept(network, modules) as found:
        network(images)
    for key, path in paths.items():
        if path == "predictions":
            logits = found[key]
            found[key] = logits.sigmoid() if network.multi_label else logits.softmax(dim=1)
    return {key: found[key] for key in paths}


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


def find_paths(network: Network, names: Iterable[str] | None, style: str) -> dict[str, str]:
    """Returns {name: path of the end point}, in execution order.

    Args:
        network: The network.
        names: The end points to find. None finds all of them.
        style: "forebear", or "original" for the names of the dialect's original library.

    Raises:
        ValueError: The style or an end point is unknown. The message suggests similar names.
    """
    if style not in ("forebear", "original"):
        raise ValueError(f'style={style!r}: expected "forebear" or "original". Pass one of these.')
    known = {path: path for path in end_points(network.plan)}
    if style == "original":
        known = original_end_points(network.plan)
    if names is None:
        return known
    paths = {}
    modules = dict(network.named_modules()) if style == "forebear" else {}
    for name in [names] if isinstance(names, str) else names:
        if name not in known and (name not in modules or not name):
            raise ValueError(
                f"end point {name!r}: {network.table.name} has no end point of that name. "
                f"Expected a name such as {next(iter(known))}. Call end_points without names "
                f"to see all of them.{near_misses(name, known)}"
            )
        paths[name] = known.get(name, name)
    order = list(dict.fromkeys([*known.values(), *modules]))
    return dict(sorted(paths.items(), key=lambda item: order.index(item[1])))
