"""Rows and tables: the definition of a network as data, validated when it is constructed.

A table defines WHAT a network is. A dialect (`dialects.py`) defines how one library builds it.
`forebear.network.plan.expand` combines the two into a list of layers. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from forebear.errors import TableError

Form = Literal["basic", "bottleneck"]
Activation = Literal["relu", "hardswish"]


def _require(fits: bool, row: str, problem: str, expected: str) -> None:
    if not fits:
        raise TableError(
            f"row {row}: {problem}. Expected {expected}. Correct this row in the table."
        )


def _require_name(name: object) -> None:
    fits = isinstance(name, str) and name.isidentifier()
    _require(
        fits,
        repr(name),
        "this is not a valid module name",
        "letters, digits and _, as in block1, and no digit first",
    )


def _require_counts(row: str, **counts: object) -> None:
    for key, value in counts.items():
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        _require(fits, row, f"{key}={value!r}", "a positive integer")


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
        _require_counts(self.name, channels=self.channels, kernel=self.kernel, stride=self.stride)
        padding: object = self.padding
        fits = padding == "same" or (isinstance(padding, int) and padding >= 0)
        expected = 'a number of pixels of at least 0, or "same"'
        _require(fits, self.name, f"padding={self.padding!r}", expected)
        _require(isinstance(self.bare, bool), self.name, f"bare={self.bare!r}", "true or false")


@dataclass(frozen=True, slots=True)
class Pool:
    """A max pool."""

    name: str
    kernel: int = 3  # side in pixels; windows are square
    stride: int = 2
    padding: Literal["same", "valid"] = "same"  # same: the dialect's alignment and padding value

    def __post_init__(self) -> None:
        _require_name(self.name)
        _require_counts(self.name, kernel=self.kernel, stride=self.stride)
        fits = self.padding in ("same", "valid")
        _require(fits, self.name, f"padding={self.padding!r}", '"same" or "valid"')


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
        _require_counts(self.name, side=self.side)


@dataclass(frozen=True, slots=True)
class Dropout:
    """Dropout during training. The remaining values are scaled by 1 / (1 - share)."""

    name: str
    share: float = 0.5  # fraction of the values that are dropped

    def __post_init__(self) -> None:
        _require_name(self.name)
        expected = "a fraction of at least 0 and below 1"
        _require(0 <= self.share < 1, self.name, f"share={self.share!r}", expected)


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
        _require_counts(
            self.name,
            units=self.units,
            width=self.width,
            channels=self.channels,
            stride=self.stride,
            groups=self.groups,
            rate=self.rate,
        )
        _require(
            self.width % self.groups == 0,
            self.name,
            f"width={self.width} is not divisible by groups={self.groups}",
            "a width that is a multiple of groups",
        )
        for channels, kernel in self.convs:
            _require_counts(self.name, channels=channels, kernel=kernel)
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
        fits = isinstance(self.source, str)
        expected = 'a string, as in "He et al. 2015"'
        _require(fits, repr(self.name), f"source={self.source!r}", expected)
        _require_counts(repr(self.name), classes=self.classes, image_size=self.image_size)
        fits = self.form in ("basic", "bottleneck")
        _require(fits, repr(self.name), f"form={self.form!r}", '"basic" or "bottleneck"')
        fits = bool(self.blocks) != bool(self.layers)
        problem = "it has both blocks and layers" if self.blocks else "it has no blocks or layers"
        _require(fits, repr(self.name), problem, "one of the two, with at least one row")
        fits = self.activation in (("relu",) if self.blocks else ("relu", "hardswish"))
        _require(
            fits,
            repr(self.name),
            f"activation={self.activation!r}",
            '"relu"; "hardswish" is supported only in a table of layers, not in residual units',
        )
        names = [row.name for row in (*self.root, *self.layers, *self.blocks)]
        for name in names:
            fits = names.count(name) == 1
            _require(fits, name, "several rows have this name", "a different name for each row")
            taken = name in ("root", "postnorm", "pool", "logits", "predictions")
            expected = "a name other than root, postnorm, pool, logits and predictions"
            _require(not taken, name, "this name is reserved", expected)
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
