"""The feature maps that a backbone gives, numbered as in timm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from forebear.network.plan.plan import Layer, Plan, Unit
from forebear.text import truncated


@dataclass(frozen=True, slots=True)
class Level:
    """One feature map of a backbone."""

    path: str  # of the module, and the name of its end point
    channels: int
    reduction: int  # input pixels between two neighbouring values


def levels(plan: Plan) -> tuple[Level, ...]:
    """Returns the feature maps of a network, from the finest to the coarsest.

    Index 0 is the root's last map before its max pool. The others are the last maps of the blocks.
    In TF-Slim's dialects, the last unit of a block has the stride of the next block. There, a level
    is the unit before it, so that its reduction is that of the other dialects. As in timm, the
    maps of version 2 are the sums, without the norm after the last block. A network without blocks
    has the maps before each max pool, and the output of the last one.
    """
    if not plan.blocks:
        return _between_pools((*plan.root, *plan.body))
    found = list(_between_pools(plan.root)[:1])
    stride = _product(plan.root)
    for name, units in plan.blocks:
        path, before = name, units
        # The nominal stride, so that a level has the same module at every output stride.
        if len(units) > 1 and prod(layer.step for layer in units[-1].convs) > 1:
            path, before = units[-2].path, units[:-1]
        found.append(Level(path, before[-1].channels, stride * _product(before)))
        stride *= _product(units)
    return tuple(found)


def _between_pools(layers: Sequence[Layer]) -> tuple[Level, ...]:
    """Returns the maps before each max pool, and the output of the last pool or layer."""
    pools = [place for place, layer in enumerate(layers) if layer.kind == "pool"]
    last = pools[-1] if pools else len(layers) - 1
    places = sorted({*(place - 1 for place in pools if place), last})
    return tuple(
        Level(layers[place].path, layers[place].channels, _product(layers[: place + 1]))
        for place in places
    )


def _product(parts: Sequence[Layer | Unit]) -> int:
    return prod(part.stride for part in parts)


class FeatureInfo:
    """What is known about each feature map, with the methods of timm's FeatureInfo.

    It contains a dict for every feature map of the network: `num_chs` is the number of channels,
    `reduction` the number of input pixels between two neighbouring values, `module` the path of the
    module, and `index` the position. Indexing, `len` and iteration cover all of them. The methods
    cover those in `out_indices`, or those at `idx`.
    """

    def __init__(self, found: Sequence[Level], out_indices: Sequence[int]) -> None:
        self.out_indices = tuple(out_indices)
        self.info: list[dict[str, Any]] = [
            {
                "num_chs": level.channels,
                "reduction": level.reduction,
                "module": level.path,
                "index": index,
            }
            for index, level in enumerate(found)
        ]

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """Returns the value of a key: a list, or one value if `idx` is an integer."""
        if isinstance(idx, int):
            return self.info[idx][key]
        return [self.info[index][key] for index in (self.out_indices if idx is None else idx)]

    def get_dicts(self, keys: Sequence[str] | None = None, idx: Any = None) -> Any:
        """Returns dicts with the keys: a list, or one dict if `idx` is an integer."""
        chosen = [idx] if isinstance(idx, int) else self.out_indices if idx is None else idx
        dicts = [{key: self.info[i][key] for key in keys or self.info[i]} for i in chosen]
        return dicts[0] if isinstance(idx, int) else dicts

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Returns the numbers of channels."""
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Returns the strides of the maps, in input pixels."""
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """Returns the paths of the modules, which are the names of the end points."""
        return self.get("module", idx)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.info[index]

    def __len__(self) -> int:
        return len(self.info)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.info)


def choose_levels(name: str, count: int, out_indices: int | Iterable[int] | None) -> list[int]:
    """Returns the positions of the chosen feature maps, in the order given.

    Args:
        name: The name of the network, for the error.
        count: The number of feature maps that it has.
        out_indices: Positions, negative ones from the end; an integer n for the last n; None for
            all.

    Raises:
        ValueError: There is no such feature map, none is chosen, or one is chosen twice.
    """
    wanted: Any = range(count) if out_indices is None else out_indices
    if isinstance(wanted, int) and not isinstance(wanted, bool) and 0 < wanted <= count:
        wanted = range(-wanted, 0)
    chosen = list(wanted) if isinstance(wanted, Iterable) else []
    fits = all(type(one) is int and -count <= one < count for one in chosen)
    positions = [one % count for one in chosen] if fits else []
    if not positions or len(set(positions)) < len(positions):
        raise ValueError(
            f"out_indices={truncated(repr(out_indices))}: {truncated(name)} has the feature maps "
            f"{', '.join(map(str, range(count)))}. Expected some of these, each once, or a number "
            f"from 1 to {count} for the last ones. Pass None for all of them."
        )
    return positions
