"""The rows that a network's table is made of: data only, checked when they are made.

A table says WHAT a network is; a dialect (`dialects.py`) says how one library builds it;
`forebear.network.plan.plan` spells both out. Nothing here imports torch.
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
            f"row {row}: {problem}. Expected {expected}. Correct this row of the table."
        )


def _require_name(name: object) -> None:
    fits = isinstance(name, str) and name.isidentifier()
    _require(
        fits,
        repr(name),
        "its name cannot be a module's name",
        "letters, digits and _, as in block1",
    )


def _require_counts(row: str, **counts: object) -> None:
    for key, value in counts.items():
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        _require(fits, row, f"{key}={value!r}", "a whole number from 1 up")


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution outside the blocks; norm, bias and activation are the dialect's answer."""

    name: str
    channels: int  # given out
    kernel: int  # pixels, square
    stride: int = 1
    padding: int | Literal["same"] = "same"  # pixels on each side; same: as the dialect pads
    bare: bool = False  # neither norm nor activation: a Norm gives them, after a pool say

    def __post_init__(self) -> None:
        _require_name(self.name)
        _require_counts(self.name, channels=self.channels, kernel=self.kernel, stride=self.stride)
        padding: object = self.padding
        fits = padding == "same" or (isinstance(padding, int) and padding >= 0)
        _require(fits, self.name, f"padding={self.padding!r}", 'pixels from 0 up, or "same"')
        _require(isinstance(self.bare, bool), self.name, f"bare={self.bare!r}", "true or false")


@dataclass(frozen=True, slots=True)
class Pool:
    """A max-pool."""

    name: str
    kernel: int = 3  # pixels, square
    stride: int = 2
    padding: Literal["same", "valid"] = "same"  # same: aligned and filled as the dialect says

    def __post_init__(self) -> None:
        _require_name(self.name)
        _require_counts(self.name, kernel=self.kernel, stride=self.stride)
        fits = self.padding in ("same", "valid")
        _require(fits, self.name, f"padding={self.padding!r}", '"same" or "valid"')


@dataclass(frozen=True, slots=True)
class Norm:
    """A norm and an activation in a row of their own, after a bare convolution and its pool."""

    name: str

    def __post_init__(self) -> None:
        _require_name(self.name)


@dataclass(frozen=True, slots=True)
class Average:
    """An average pool to a map of fixed size, whatever comes in (torchvision's adaptive pool)."""

    name: str
    side: int  # of the square map given out

    def __post_init__(self) -> None:
        _require_name(self.name)
        _require_counts(self.name, side=self.side)


@dataclass(frozen=True, slots=True)
class Dropout:
    """Dropout while training; the values kept are scaled up."""

    name: str
    share: float = 0.5  # of the values dropped

    def __post_init__(self) -> None:
        _require_name(self.name)
        _require(0 <= self.share < 1, self.name, f"share={self.share!r}", "a share from 0 up to 1")


@dataclass(frozen=True, slots=True)
class Block:
    """A run of residual units of one width: one row of table 1 in He et al. 2015."""

    name: str
    units: int
    width: int  # channels of the 3x3 convolutions
    channels: int  # given out
    stride: int = 1  # how much coarser than the row above
    groups: int = 1  # cardinality (Xie et al. 2016): groups of the 3x3 convolutions
    rate: int = 1  # dilation of the 3x3 convolutions at nominal stride
    convs: tuple[tuple[int, int], ...] = ()  # (channels, kernel) of each, where no form says so

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
            f"width={self.width} does not divide into groups={self.groups}",
            "a width that is a multiple of the groups",
        )
        for channels, kernel in self.convs:
            _require_counts(self.name, channels=channels, kernel=kernel)
        if self.convs:
            _require(
                self.convs[-1][0] == self.channels,
                self.name,
                f"its last convolution gives {self.convs[-1][0]}, channels={self.channels}",
                "both the same",
            )


Row = Conv | Pool | Norm | Average | Dropout


@dataclass(frozen=True, slots=True)
class Table:
    """A network as data: the root, then layers or residual blocks; the dialect adds a head."""

    name: str  # as its home calls it, "resnet_v1_50"
    root: tuple[Conv | Pool, ...]  # all before block1; never made dense
    form: Form = "bottleneck"  # the kind of unit in the blocks
    blocks: tuple[Block, ...] = ()
    layers: tuple[Row, ...] = ()  # rows in place of blocks (AlexNet)
    activation: Activation = "relu"  # of the layers; hardswish: Howard et al. 2019, section 5.2
    shortcuts: bool = True  # False: a plain network, the units' additions left out
    classes: int = 1000  # of the published network, without a background class
    image_size: int = 224  # side in pixels of the published network's input
    # The paper with its table, and the file of the original code. Not compared: a table is the
    # same network with or without it, and files from before it have none.
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        fits = isinstance(self.source, str)
        _require(fits, repr(self.name), f"source={self.source!r}", "text, as in He et al. 2015")
        _require_counts(repr(self.name), classes=self.classes, image_size=self.image_size)
        fits = self.form in ("basic", "bottleneck")
        _require(fits, repr(self.name), f"form={self.form!r}", '"basic" or "bottleneck"')
        fits = bool(self.blocks) != bool(self.layers)
        _require(fits, repr(self.name), "blocks and layers", "one of them, with at least one row")
        fits = self.activation in (("relu",) if self.blocks else ("relu", "hardswish"))
        _require(
            fits,
            repr(self.name),
            f"activation={self.activation!r}",
            '"relu", or "hardswish" in a table of layers: residual units have ReLUs',
        )
        names = [row.name for row in (*self.root, *self.layers, *self.blocks)]
        for name in names:
            _require(names.count(name) == 1, name, "its name stands twice", "one row a name")
            taken = name in ("root", "postnorm", "pool", "logits", "predictions")
            _require(
                not taken, name, "its name is taken by a part of every network", "another name"
            )
        for block in self.blocks:
            fits = bool(block.convs) or self.form != "basic" or block.width == block.channels
            _require(
                fits,
                block.name,
                f"width={block.width} and channels={block.channels} in basic units",
                "both the same: a basic unit has one width",
            )


def convs_of(block: Block, form: Form) -> tuple[tuple[int, int], ...]:
    """(channels, kernel) of each convolution in one unit: He et al. 2015, figure 5."""
    if block.convs:
        return block.convs
    if form == "basic":
        return ((block.width, 3), (block.channels, 3))
    return ((block.width, 1), (block.width, 3), (block.channels, 1))
