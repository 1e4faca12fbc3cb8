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
from forebear.network.plan.expand import expand
from forebear.network.plan.naming_schemes import NAMING_SCHEMES
from forebear.tables import dialects
from forebear.tables.dialects import Dialect
from forebear.tables.resnet import cifar_root
from forebear.tables.rows import Block, Conv, Form, Pool, Table
from forebear.weights.find_sets import Wanted
from forebear.weights.variable_names import SOURCES

Shape = tuple[int, ...]
SMALL_SIDE = 32  # pixels
Units = dict[int, dict[int, dict[int, Shape]]]  # {block: {unit: {convolution: OIHW}}}, from 1


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A dialect, and which networks of its scheme it is for."""

    dialect: Dialect
    grouped: bool | None = None  # with groups, without; None: both
    small: bool | None = None  # with the root for images of 32 pixels, with the other; None: both

    def takes(self, table: Table) -> bool:
        """Whether the dialect is for this network."""
        grouped = any(block.groups > 1 for block in table.blocks)
        small = table.image_size == SMALL_SIDE
        return self.grouped in (None, grouped) and self.small in (None, small)


# The dialects that use a scheme, in the order in which they are tried: the first one with the
# file's shortcuts and pre-activations is taken.
_CANDIDATES: dict[str, tuple[_Candidate, ...]] = {
    "torchvision": (
        _Candidate(dialects.TORCHVISION_V1, small=False),
        _Candidate(dialects.TORCHVISION_CIFAR, small=True),
    ),
    "cifar": (
        _Candidate(dialects.PAPER_CIFAR_B),
        _Candidate(dialects.PAPER_CIFAR),
        _Candidate(dialects.PAPER_V2_A),
        _Candidate(dialects.PAPER_V2),
    ),
    "timm-v2": (_Candidate(dialects.TIMM_PREACT), _Candidate(dialects.TIMM_PREACT_BASIC)),
    "keras": (_Candidate(dialects.KERAS_V1), _Candidate(dialects.KERAS_V2)),
    "slim": (_Candidate(dialects.SLIM_V1), _Candidate(dialects.SLIM_V2)),
    "weiaicunzai": (_Candidate(dialects.WEIAICUNZAI),),
    "paddle": (_Candidate(dialects.PADDLE),),
    "caffe2": (
        _Candidate(dialects.DETECTRON, grouped=False),
        _Candidate(dialects.DETECTRON_RESNEXT, grouped=True),
    ),
    "detectron2": (
        _Candidate(dialects.DETECTRON2, grouped=False),
        _Candidate(dialects.DETECTRON2_RESNEXT, grouped=True),
    ),
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
    def wanted(self) -> Wanted | None:
        """The names and shapes of the network; None if the dialect cannot build it."""
        try:
            return Wanted(expand(self.table, self.dialect, num_classes=self.table.classes))
        except (TableError, ValueError):
            return None

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
    for key, candidates in _CANDIDATES.items():
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
            root = names.get(prefix + _root_name(key, net))
            size = None if root is None else _oihw(shape(root), key)
            table = None if size is None else _table(blocks, size, net)
            if table is None:
                continue
            for one in candidates:
                if one.takes(table):
                    yield Structure(table, one.dialect)
                    yield Structure(_with_stride(table), one.dialect)


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


def _root_name(key: str, net: str) -> str:
    """Returns the name of the kernel of the root's convolution."""
    scope = NAMING_SCHEMES[key].scopes["root", "conv"].format(net=net, layer="conv1")
    return f"{scope}{SOURCES[key].separator}{SOURCES[key].arrays['conv.weight']}"


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
    small = root[2] == 3
    if not small and root[2] != 7:
        return None
    large_root = (Conv("conv1", root[0], 7, stride=2), Pool("pool1"))
    try:
        return Table(
            net or f"resnet{layers}",
            cifar_root(root[0]) if small else large_root,
            form,
            tuple(replace(row, convs=()) for row in rows),
            image_size=SMALL_SIDE if small else 224,
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
    try:
        return Block(
            f"block{number}",
            len(units),
            convs[0][0],
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


def _with_stride(table: Table) -> Table:
    """Returns the table with a stride in the first block, as transformers' networks can have it."""
    return replace(table, blocks=(replace(table.blocks[0], stride=2), *table.blocks[1:]))
