"""Rows and tables: the definition of a network as data, validated when it is constructed.

A table defines WHAT a network is. A dialect (`dialects.py`) defines how one library builds it.
`forebear.network.plan.expand` combines the two into a list of layers. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from forebear.errors import TableError
from forebear.limits import (
    CHANNELS,
    CLASSES,
    INPUT_SIDE,
    KERNEL,
    TABLE_CONVS,
    TABLE_NAME,
    TABLE_SOURCE,
    TABLE_UNITS,
    UNIT_CONVS,
)
from forebear.tables.checks import is_count, is_line, is_number, shown

Form = Literal["basic", "bottleneck"]
Activation = Literal["relu", "hardswish"]


def _require(fits: bool, row: str, problem: str, expected: str) -> None:
    if not fits:
        raise TableError(
            f"row {row}: {problem}. Expected {expected}. Correct this row in the table."
        )


def _require_name(name: object) -> None:
    fits = is_line(name, TABLE_NAME) and isinstance(name, str) and name.isidentifier()
    expected = (
        f"letters, digits and _, as in block1, no digit first, and at most {TABLE_NAME} characters"
    )
    _require(fits, shown(name), "this is not a valid module name", expected)


def _require_counts(row: str, most: int, **counts: object) -> None:
    for key, value in counts.items():
        expected = f"a positive integer of at most {most:,}"
        _require(is_count(value, most), row, f"{key}={shown(value)}", expected)


def _require_flag(row: str, key: str, value: object) -> None:
    _require(isinstance(value, bool), row, f"{key}={shown(value)}", "true or false")


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution outside the blocks. The dialect decides on its norm, bias and activation."""

    name: str
    channels: int  # output channels
    kernel: int  # side in pixels; kernels are square
    stride: int = 1
    padding: int | Literal["same"] = "same"  # pixels on each side; same: the dialect's padding
    bare: bool = False  # without norm and activation: a later Norm row has them, e.g. after a pool

    def __post_init__(self) -> None:
        _require_name(self.name)
        _require_counts(self.name, CHANNELS, channels=self.channels)
        _require_counts(self.name, KERNEL, kernel=self.kernel, stride=self.stride)
        fits = self.padding == "same" or is_count(self.padding, KERNEL, least=0)
        expected = f'a number of pixels from 0 to {KERNEL:,}, or "same"'
        _require(fits, self.name, f"padding={shown(self.padding)}", expected)
        _require_flag(self.name, "bare", self.bare)


@dataclass(frozen=True, slots=True)
class Pool:
    """A max pool."""

    name: str
    kernel: int = 3  # side in pixels; windows are square
    stride: int = 2
    padding: Literal["same", "valid"] = "same"  # same: the dialect's alignment and padding value

    def __post_init__(self) -> None:
        _require_name(self.name)
        _require_counts(self.name, KERNEL, kernel=self.kernel, stride=self.stride)
        fits = self.padding in ("same", "valid")
        _require(fits, self.name, f"padding={shown(self.padding)}", '"same" or "valid"')


@dataclass(frozen=True, slots=True)
class Norm:
    """A norm and an activation as a separate row, after a bare convolution and its pool."""

    name: str

    def __post_init__(self) -> None:
        _require_name(self.name)


@dataclass(frozen=True, slots=True)
class Average:
    """An adaptive average pool (torchvision): its output size does not depend on the input's."""

    name: str
    side: int  # side of the square output map, in pixels

    def __post_init__(self) -> None:
        _require_name(self.name)
        _require_counts(self.name, KERNEL, side=self.side)


@dataclass(frozen=True, slots=True)
class Dropout:
    """Dropout during training. The remaining values are scaled by 1 / (1 - share)."""

    name: str
    share: float = 0.5  # fraction of the values that are dropped

    def __post_init__(self) -> None:
        _require_name(self.name)
        expected = "a fraction of at least 0 and below 1"
        fits = is_number(self.share, 0, 1) and self.share < 1
        _require(fits, self.name, f"share={shown(self.share)}", expected)


@dataclass(frozen=True, slots=True)
class Block:
    """A sequence of residual units of one width: one row of table 1 in He et al. 2015."""

    name: str
    units: int
    width: int  # channels of the 3x3 convolutions
    channels: int  # output channels
    stride: int = 1  # relative to the block above
    groups: int = 1  # cardinality (Xie et al. 2016): groups of the 3x3 convolutions
    rate: int = 1  # dilation of the 3x3 convolutions at nominal stride
    convs: tuple[tuple[int, int], ...] = ()  # (channels, kernel) of each; empty: the form's

    def __post_init__(self) -> None:
        _require_name(self.name)
        _require_counts(self.name, TABLE_UNITS, units=self.units)
        _require_counts(
            self.name, CHANNELS, width=self.width, channels=self.channels, groups=self.groups
        )
        _require_counts(self.name, KERNEL, stride=self.stride, rate=self.rate)
        _require(
            self.width % self.groups == 0,
            self.name,
            f"width={self.width} is not divisible by groups={self.groups}",
            "a width that is a multiple of groups",
        )
        problem = f"convs has {len(self.convs):,} convolutions"
        _require(len(self.convs) <= UNIT_CONVS, self.name, problem, f"at most {UNIT_CONVS}")
        for channels, kernel in self.convs:
            _require_counts(self.name, CHANNELS, channels=channels)
            _require_counts(self.name, KERNEL, kernel=kernel)
        if self.convs:
            _require(
                self.convs[-1][0] == self.channels,
                self.name,
                f"the last of convs has {self.convs[-1][0]} channels, but channels={self.channels}",
                "both to be equal",
            )


Row = Conv | Pool | Norm | Average | Dropout


@dataclass(frozen=True, slots=True)
class Table:
    """A network as data: the root, then either layers or residual blocks. The head is implied."""

    name: str  # the name in the original library, "resnet_v1_50"
    root: tuple[Conv | Pool, ...]  # everything before block1; its strides are always kept
    form: Form = "bottleneck"  # the kind of unit in the blocks
    blocks: tuple[Block, ...] = ()
    layers: tuple[Row, ...] = ()  # instead of blocks (AlexNet)
    activation: Activation = "relu"  # of the layers; hardswish: Howard et al. 2019, section 5.2
    shortcuts: bool = True  # False: a plain network, whose units have no addition
    classes: int = 1000  # of the published network, without a background class
    image_size: int = 224  # side in pixels of the published network's input
    # The paper with its table, and the file of the original code. It is not compared: it does not
    # change the network, and older files lack it.
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        name = shown(self.name)
        expected = f"a string of one line and at most {TABLE_NAME} characters"
        _require(is_line(self.name, TABLE_NAME), name, "this is not a valid name", expected)
        fits = is_line(self.source, TABLE_SOURCE)
        expected = f"a string of one line and at most {TABLE_SOURCE:,} characters"
        _require(fits, name, f"source={shown(self.source)}", expected)
        _require_counts(name, CLASSES, classes=self.classes)
        _require_counts(name, INPUT_SIDE, image_size=self.image_size)
        fits = self.form in ("basic", "bottleneck")
        _require(fits, name, f"form={shown(self.form)}", '"basic" or "bottleneck"')
        _require_flag(name, "shortcuts", self.shortcuts)
        fits = bool(self.blocks) != bool(self.layers)
        problem = "it has both blocks and layers" if self.blocks else "it has no blocks or layers"
        _require(fits, name, problem, "one of the two, with at least one row")
        fits = self.activation in (("relu",) if self.blocks else ("relu", "hardswish"))
        _require(
            fits,
            name,
            f"activation={shown(self.activation)}",
            '"relu"; "hardswish" is supported only in a table of layers, not in residual units',
        )
        self._require_rows(name)

    def _require_rows(self, table: str) -> None:
        count = len(self.root) + len(self.layers) + sum(block.units for block in self.blocks)
        problem = f"it has {count:,} units and rows"
        _require(count <= TABLE_UNITS, table, problem, f"at most {TABLE_UNITS:,} in all")
        convs = sum(block.units * len(convs_of(block, self.form)) for block in self.blocks)
        problem = f"its units have {convs:,} convolutions"
        _require(convs <= TABLE_CONVS, table, problem, f"at most {TABLE_CONVS:,} in all")
        seen = set()
        for row in (*self.root, *self.layers, *self.blocks):
            problem = "several rows have this name"
            _require(row.name not in seen, row.name, problem, "a different name for each row")
            seen.add(row.name)
            taken = row.name in ("root", "postnorm", "pool", "logits", "predictions")
            expected = "a name other than root, postnorm, pool, logits and predictions"
            _require(not taken, row.name, "this name is reserved", expected)
        for block in self.blocks:
            fits = bool(block.convs) or self.form != "basic" or block.width == block.channels
            _require(
                fits,
                block.name,
                f"width={block.width} and channels={block.channels} in basic units",
                "both to be equal, because a basic unit has one width",
            )


def convs_of(block: Block, form: Form) -> tuple[tuple[int, int], ...]:
    """Returns (channels, kernel) of each convolution in one unit: He et al. 2015, figure 5."""
    if block.convs:
        return block.convs
    if form == "basic":
        return ((block.width, 3), (block.channels, 3))
    return ((block.width, 1), (block.width, 3), (block.channels, 1))
