"""Reads a network's table off the names and shapes of its arrays, for networks of any size.

The names give the blocks, the units and their convolutions; the shapes give the channels, the
kernels and the groups. Strides have no arrays. They are those of He et al. 2015: a root with a
kernel of 7 pixels has stride 2 and a max pool after it, one of 3 pixels has neither (section 4.2),
and every block but the first has stride 2. The caller compares the result with the file.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

from forebear.errors import TableError
from forebear.network.plan.naming_schemes import NAMING_SCHEMES
from forebear.tables import dialects
from forebear.tables.dialects import Dialect
from forebear.tables.resnet import IMAGENET_ROOT, cifar_root
from forebear.tables.rows import Block, Conv, Form, Table
from forebear.weights.variable_names import SOURCES

Shape = tuple[int, ...]
Units = dict[int, dict[int, dict[int, Shape]]]  # {block: {unit: {convolution: OIHW}}}, from 1

# The dialects that use a scheme, in the order in which they are tried: the first one with the
# file's shortcuts and pre-activations is taken.
_DIALECTS: dict[str, tuple[Dialect, ...]] = {
    "torchvision": (dialects.TORCHVISION_V1, dialects.TORCHVISION_CIFAR),
    "cifar": (
        dialects.PAPER_CIFAR_B,
        dialects.PAPER_CIFAR,
        dialects.PAPER_V2_A,
        dialects.PAPER_V2,
    ),
    "timm-v2": (dialects.TIMM_PREACT, dialects.TIMM_PREACT_BASIC),
    "keras": (dialects.KERAS_V1, dialects.KERAS_V2),
    "slim": (dialects.SLIM_V1, dialects.SLIM_V2),
    "weiaicunzai": (dialects.WEIAICUNZAI,),
    "paddle": (dialects.PADDLE,),
    "caffe2": (dialects.DETECTRON, dialects.DETECTRON_RESNEXT),
    "detectron2": (dialects.DETECTRON2, dialects.DETECTRON2_RESNEXT),
}
# What stands for a slot of a name's template, as a number from 1 after the difference is added.
_NUMBERS = {
    "b": ("block", 0), "B": ("block", -1), "w": ("block", 1),
    "u": ("unit", 0), "v": ("unit", 1),
    "n": ("conv", 0), "m": ("conv", -1), "l": ("conv", 1),
}  # fmt: skip
_PLACES = 3  # of a convolution, its norm and its ReLU in a sequence: the slot i counts them
_WORDS = {
    "net": r"(?P<net>[^/.]+)",
    "block": r"block(?P<b>\d{1,3})",
    "unit": r"unit_(?P<u>\d{1,4})",
    "form": r"(?:bottleneck|basic)_v[12]",
}


@dataclass(frozen=True, slots=True)
class Structure:
    """A network that a file seems to hold."""

    table: Table
    dialect: Dialect

    @property
    def line(self) -> str:
        """What was read off the arrays, and what was assumed."""
        blocks = self.table.blocks
        units = ", ".join(str(block.units) for block in blocks)
        channels = ", ".join(str(block.channels) for block in blocks)
        groups = {block.groups for block in blocks}
        grouped = "" if groups == {1} else f", {', '.join(map(str, sorted(groups)))} groups"
        return (
            f"the network is read from the shapes: {self.table.form} units, {units} in "
            f"{len(blocks)} blocks of {channels} channels{grouped}; strides as in dialect "
            f"{self.dialect.name}"
        )


def structures(names: Mapping[str, str], shape: Callable[[str], Shape]) -> Iterator[Structure]:
    """Yields the networks whose convolutions a file seems to hold.

    Args:
        names: {name without wrappers: name in the file}, as of `plain_names`.
        shape: Returns the shape of an array of the file.
    """
    for key, known in _DIALECTS.items():
        pattern = _conv_pattern(key)
        found: dict[tuple[str, str], Units] = defaultdict(lambda: defaultdict(dict))
        for name, own in names.items():
            match = pattern.search(name)
            if match is None or (match.start() and name[match.start() - 1] not in "./"):
                continue
            size = _oihw(shape(own), key)
            if size is None:
                continue
            place = _place(match)
            if min(place.values()) < 1:  # Keras counts the projection as convolution 0
                continue
            prefix = name[: match.start()]
            units = found[prefix, match.groupdict().get("net") or ""][place["block"]]
            units.setdefault(place["unit"], {})[place["conv"]] = size
        for (prefix, net), blocks in found.items():
            root = names.get(prefix + _name(key, "root", net, layer="conv1"))
            size = None if root is None else _oihw(shape(root), key)
            table = None if size is None else _table(blocks, size, net)
            if table is None:
                continue
            for dialect in known:
                yield from _in_dialect(table, dialect)


@cache
def _conv_pattern(key: str) -> re.Pattern[str]:
    """Returns the pattern of the name of a convolution's kernel in a unit."""
    scheme, source = NAMING_SCHEMES[key], SOURCES[key]
    text, last = scheme.scopes["conv", "conv"], source.arrays["conv.weight"]
    parts = re.split(r"\{(\w+)\}", f"{text}{source.separator}{last}")
    made = ""
    for number, part in enumerate(parts):
        if number % 2 == 0:
            made += re.escape(part)
        elif part in _WORDS:
            made += _WORDS[part]
        elif part == "branch":
            made += "(?P<branch>[a-z])"
        else:
            made += rf"(?P<{part}>\d{{1,4}})"
    return re.compile(f"{made}$")


def _place(match: re.Match[str]) -> dict[str, int]:
    """Returns the numbers of the block, the unit and the convolution, from 1."""
    found = {}
    for slot, text in match.groupdict().items():
        if slot == "branch":
            found["conv"] = ord(text) - ord("a") + 1
        elif slot == "i":
            place, rest = divmod(int(text), _PLACES)
            found["conv"] = place + 1 if not rest else 0  # 0: not a convolution
        elif slot in _NUMBERS:
            what, more = _NUMBERS[slot]
            found[what] = int(text) + more
    return found


def _name(key: str, role: str, net: str, **slots: str) -> str:
    scheme, source = NAMING_SCHEMES[key], SOURCES[key]
    scope = scheme.scopes[role, "conv"].format(net=net, **slots)  # type: ignore[index]
    return f"{scope}{source.separator}{source.arrays['conv.weight']}"


def _oihw(size: Shape, key: str) -> Shape | None:
    """Returns a kernel's shape in torch's layout; None if it is no square kernel."""
    if len(size) != 4:
        return None
    found = size if not SOURCES[key].kernel.axes else (size[3], size[2], size[0], size[1])
    return found if found[2] == found[3] else None


def _table(blocks: Units, root: Shape, net: str) -> Table | None:
    """Returns the table of the kernels; None if they are not those of a residual network."""
    if sorted(blocks) != [*range(1, len(blocks) + 1)]:
        return None
    rows: list[Block] = []
    channels = root[0]
    for number in sorted(blocks):
        row = _block(number, blocks[number], channels)
        if row is None:
            return None
        rows.append(row)
        channels = row.channels
    kinds = {_form(row) for row in rows}
    if len(kinds) != 1 or None in kinds:
        return None
    form: Form = "basic" if kinds == {"basic"} else "bottleneck"
    layers = 2 + sum(row.units * len(row.convs) for row in rows)
    known = {7: IMAGENET_ROOT, 3: cifar_root(root[0])}.get(root[2])
    if known is None:
        return None
    own = Conv("conv1", root[0], root[2], stride=2 if root[2] == 7 else 1)
    try:
        return Table(
            net or f"resnet{layers}",
            (own, *known[1:]),
            form,
            tuple(replace(row, convs=()) for row in rows),
            image_size=224 if root[2] == 7 else 32,
        )
    except TableError:
        return None


def _block(number: int, units: Mapping[int, Mapping[int, Shape]], channels: int) -> Block | None:
    """Returns the row of a block; None if its units differ."""
    if sorted(units) != [*range(1, len(units) + 1)]:
        return None
    kinds, groups = set(), set()
    for unit in (units[place] for place in sorted(units)):
        if sorted(unit) != [*range(1, len(unit) + 1)]:
            return None
        before = channels
        for place in sorted(unit):
            out, inside, kernel, _ = unit[place]
            if inside < 1 or before % inside:
                return None
            if kernel > 1:
                groups.add(before // inside)
            before = out
        kinds.add(tuple((unit[place][0], unit[place][2]) for place in sorted(unit)))
        channels = before
    if len(kinds) != 1 or len(groups) != 1:
        return None
    (convs,), (count,) = kinds, groups
    wide = convs[min(1, len(convs) - 1)][0] if len(convs) > 2 else convs[0][0]
    try:
        return Block(
            f"block{number}",
            len(units),
            wide,
            convs[-1][0],
            min(number, 2),
            groups=count,
            convs=convs,
        )
    except TableError:
        return None


def _form(row: Block) -> Form | None:
    """Returns the form of a block's units; None if they are neither basic nor bottlenecks."""
    if row.convs == ((row.channels, 3), (row.channels, 3)):
        return "basic"
    if row.convs == ((row.width, 1), (row.width, 3), (row.channels, 1)):
        return "bottleneck"
    return None


def _in_dialect(table: Table, dialect: Dialect) -> Iterator[Structure]:
    grouped = any(block.groups > 1 for block in table.blocks)
    if dialect.name.startswith("detectron") and grouped != dialect.name.endswith("-resnext"):
        return
    small = table.image_size == 32
    if dialect.names == "torchvision" and small != (dialect is dialects.TORCHVISION_CIFAR):
        return
    yield Structure(table, dialect)
    # Networks whose first block has a stride too, such as transformers' downsample_in_first_stage
    first = replace(table.blocks[0], stride=2)
    yield Structure(replace(table, blocks=(first, *table.blocks[1:])), dialect)
