"""Tables that compare dialects, one for each topic, with one row for each dialect.

The cells come from the records of the dialects, and from the plans of their published networks. A
cell therefore describes what the networks really do: a basic unit has its stride in another
convolution than a bottleneck, and AlexNet has no norm. Nothing here imports torch.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from forebear.errors import near_misses
from forebear.network.describe.dialect_text import answers, question, strided_layer
from forebear.network.plan.expand import expand
from forebear.network.plan.plan import ACTIVATIONS, Layer, Plan
from forebear.tables import resnet
from forebear.tables.dialects import DIALECTS, Dialect
from forebear.tables.files import dialect_to_dict
from forebear.tables.registry import NETWORKS

NONE = "-"  # a question that does not apply, such as epsilon in a network without norms


@dataclass(frozen=True, slots=True)
class Topic:
    """One table: a header, and a row for each dialect. The first cell is the dialect's name."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class _Built:
    """A dialect and its published networks."""

    dialect: Dialect

    @cached_property
    def networks(self) -> tuple[str, ...]:
        return tuple(name for name, entry in NETWORKS.items() if entry.dialect == self.dialect)

    @cached_property
    def plans(self) -> tuple[Plan, ...]:
        """The plans of its networks, or of a ResNet-50 and a ResNet-18 if it has none."""
        tables = [NETWORKS[name].table for name in self.networks]
        tables = tables or [resnet.imagenet(f"resnet{depth}", depth) for depth in (50, 18)]
        return tuple(expand(table, self.dialect, num_classes=table.classes) for table in tables)

    def layers(self) -> Iterator[Layer]:
        for plan in self.plans:
            yield from plan.layers()

    @cached_property
    def normed(self) -> bool:
        return any(layer.norm for layer in self.layers())

    @cached_property
    def residual(self) -> bool:
        return any(plan.blocks for plan in self.plans)


Ask = Callable[[_Built], str]


def find_dialects(patterns: Sequence[str]) -> list[str]:
    """Returns the names of the dialects that match any of the patterns; all without a pattern.

    Args:
        patterns: Names or shell patterns. "slim-*" matches names of dialects. A pattern with a
            slash, such as "slim/resnet_v1_50", matches networks and selects their dialects.

    Raises:
        ValueError: A pattern matches nothing. The message suggests similar names.
    """
    found = {name for pattern in patterns for name in _matches(pattern)}
    return [name for name in DIALECTS if name in found or not patterns]


def _matches(pattern: str) -> list[str]:
    """Returns the dialects that match a pattern, or else those whose names contain it."""
    if "/" in pattern:
        networks = fnmatch.filter(NETWORKS, pattern)
        found = [NETWORKS[name].dialect.name for name in networks]
    else:
        found = fnmatch.filter(DIALECTS, pattern) or fnmatch.filter(DIALECTS, f"*{pattern}*")
    if not found:
        known = NETWORKS if "/" in pattern else DIALECTS
        raise ValueError(
            f"PATTERN={pattern!r} matches none of the {len(DIALECTS)} dialects. Expected a name or "
            f'a shell pattern of a dialect or a network, as in "slim-*" or "slim/resnet_v1_50". '
            f"Run `forebear dialects` to see all dialects.{near_misses(pattern, known)}"
        )
    return found


def side_by_side(names: Iterable[str]) -> tuple[Topic, ...]:
    """Returns one table for each topic, with a row for each of the dialects."""
    built = [_Built(DIALECTS[name]) for name in names]
    return tuple(
        Topic(
            title,
            ("dialect", *asked),
            tuple((each.dialect.name, *(ask(each) for ask in asked.values())) for each in built),
        )
        for title, asked in _TOPICS.items()
    )


def as_dicts(names: Iterable[str]) -> list[dict[str, Any]]:
    """Returns plain data for each dialect: its networks, its cells and the values of its record."""
    found = []
    for name in names:
        built = _Built(DIALECTS[name])
        found.append(
            {
                "dialect": name,
                "networks": list(built.networks),
                "facts": {
                    title: {asks: ask(built) for asks, ask in asked.items()}
                    for title, asked in _TOPICS.items()
                    if asked is not _NETWORKS
                },
                "answers": dialect_to_dict(built.dialect),
            }
        )
    return found


def _networks(built: _Built) -> str:
    return ", ".join(built.networks) or "no published network"


def _stride(built: _Built) -> str:
    """Returns the convolution and the unit that have a block's stride, bottlenecks first."""
    places: dict[str, str] = {}
    for plan in sorted(built.plans, key=lambda plan: plan.table.form, reverse=True):
        found = strided_layer(plan)
        if found is not None:
            layer, last = found
            conv = f"{layer.kernel}x{layer.kernel} ({layer.name})"
            unit = f"{conv} of the {'last' if last else 'first'} unit"
            places.setdefault(plan.table.form, f"basic units: {conv}" if places else unit)
    return _distinct(places.values())


def _root(built: _Built) -> str:
    return _distinct(
        _spell_conv(layer) for plan in built.plans for layer in plan.root if layer.kind == "conv"
    )


def _spell_conv(layer: Layer) -> str:
    parts = [f"{layer.kernel}x{layer.kernel}/{layer.stride}", f"padding {_padding(layer)}"]
    parts += ["norm"] if layer.norm else []
    parts += [ACTIVATIONS[layer.activation]] if layer.activation != "none" else []
    return ", ".join(parts)


def _padding(layer: Layer) -> str:
    if layer.padding != "same":
        return str(layer.padding)
    whole = max(layer.kernel - layer.stride, 0)  # the total, if the stride divides the map
    before = whole // 2
    return f"SAME ({before} and {whole - before} on even maps)" if layer.stride == 2 else "SAME"


def _pool(built: _Built) -> str:
    pools = [
        layer for plan in built.plans for layer in (*plan.root, *plan.body) if layer.kind == "pool"
    ]
    return _distinct(
        f"max-pool {layer.kernel}x{layer.kernel}/{layer.stride}, padding {_padding(layer)}"
        for layer in pools
    )


def _pool_border(built: _Built) -> str:
    pools = [layer for layer in built.layers() if layer.kind == "pool" and layer.padding != 0]
    return answers(built.dialect)["pool_fill"][1] if pools else NONE


def _biases(built: _Built) -> str:
    convs = [layer for layer in built.layers() if layer.kind == "conv"]
    biased = [layer for layer in convs if layer.bias]
    if len(biased) == len(convs):
        return "all"
    if not biased:
        return "none"
    return "those without a norm" if not any(layer.norm for layer in biased) else "some"


def _projects(built: _Built) -> str:
    return answers(built.dialect)["shortcut"][1] if built.residual else NONE


def _projection_norm(built: _Built) -> str:
    projections = [
        unit.shortcut
        for plan in built.plans
        for unit in plan.units()
        if unit.shortcut is not None and unit.shortcut.kind == "conv"
    ]
    return answers(built.dialect)["shortcut_norm"][1] if projections else NONE


def _classes(built: _Built) -> str:
    if not built.networks:
        return NONE
    background = built.dialect.background
    counts = dict.fromkeys(plan.table.classes + background for plan in built.plans)
    return ", ".join(map(str, counts)) + (", background first" if background else "")


def _distinct(phrases: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(phrases)) or NONE


def _answer(field: str, applies: Callable[[_Built], bool] = lambda built: True) -> dict[str, Ask]:
    """Returns a column with the text of one field of the record, under the field's title."""

    def ask(built: _Built) -> str:
        _, said = answers(built.dialect).get(field, ("", NONE))
        return said if applies(built) else NONE

    return {question(field): ask}


def _normed(built: _Built) -> bool:
    return built.normed


def _residual(built: _Built) -> bool:
    return built.residual


_NETWORKS: dict[str, Ask] = {"networks": _networks}
# {title of the table: {title of the column: function that returns the cell}}
_TOPICS: dict[str, dict[str, Ask]] = {
    "Networks": _NETWORKS,
    "Residual units": {
        **_answer("order", _residual),
        "strided convolution": _stride,
        question("shortcut"): _projects,
    },
    "Root and pool": {
        "root convolution": _root,
        "pool": _pool,
        question("pool_fill"): _pool_border,
        **_answer("conv_padding"),
    },
    "Norms": {
        **_answer("norm_eps", _normed),
        **_answer("norm_decay", _normed),
        **_answer("norm_variance", _normed),
        question("shortcut_norm"): _projection_norm,
        **_answer("final_norm"),
    },
    "Biases, head and classes": {
        "convolutions with a bias": _biases,
        **_answer("head"),
        "classes": _classes,
    },
    "Initial weights and names": {
        **_answer("init"),
        **_answer("names"),
    },
    "Preprocessing: resize and crop": {
        **_answer("preprocessing.size"),
        **_answer("preprocessing.resize"),
        **_answer("preprocessing.interpolation"),
    },
    "Preprocessing: values": {
        **_answer("preprocessing.order"),
        **_answer("preprocessing.scale"),
        **_answer("preprocessing.mean"),
        **_answer("preprocessing.std"),
    },
}
