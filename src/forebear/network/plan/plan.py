"""The records of a plan: every layer of a network with its channels, stride, rate and padding.

Nothing here imports torch. `expand.py` makes the records from a table and a dialect, and
`network.py` turns them into modules. Weight names, shapes, counts, end points and drawings are all
derived from the same records.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from forebear.tables.dialects import Dialect
from forebear.tables.rows import Table

Activation = Literal["none", "relu", "hardswish"]
ACTIVATIONS: dict[Activation, str] = {"none": "none", "relu": "ReLU", "hardswish": "hardswish"}
Kind = Literal["conv", "norm", "pool", "identity", "average", "dropout", "mean", "logits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer. Its path is the path of its module and the name of its end point."""

    path: str
    kind: Kind
    in_channels: int
    channels: int  # output channels
    kernel: int = 1  # side in pixels; kernels are square
    step: int = 1  # nominal stride
    stride: int = 1  # actual stride: the step, or 1 if it was replaced by dilation
    rate: int = 1  # dilation of the kernel, including `dense`
    dense: int = 1  # product of the strides before this layer that were replaced by dilation
    padding: int | Literal["same"] = 0  # pixels on each side at rate 1; same: TensorFlow's
    fill: Literal["lowest", "zero"] = "zero"  # padding value: -inf or 0
    groups: int = 1
    bias: bool = False
    norm: bool = False  # a norm follows the convolution
    activation: Activation = "none"  # applied last
    zeros: tuple[int, int] = (0, 0)  # identity: zero channels added before and after
    side: int = 0  # average: side of the output map in pixels
    share: float = 0.0  # dropout: fraction of the values that are dropped

    @property
    def relu(self) -> bool:
        """Whether the layer ends in a ReLU, so that its output is never negative."""
        return self.activation == "relu"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    def out_side(self, side: int) -> int:
        """Returns the side of the output for an input side, both in pixels; below 1 if empty."""
        if self.kind in ("mean", "average"):
            return self.side or 1
        if self.padding == "same" or self.kind == "identity":
            return -(-side // self.stride)
        reach = self.rate * (self.kernel - 1)
        room = side + 2 * self.padding * self.rate - reach
        return (room - 1) // self.stride + 1 if room > 0 else 0

    def in_side(self, side: int) -> int | None:
        """Returns the smallest input side for an output of at least `side`; None if none is."""
        if self.kind in ("mean", "average"):
            return 1 if side <= (self.side or 1) else None
        least = (side - 1) * self.stride + 1
        if self.padding == "same" or self.kind == "identity":
            return least
        return max(1, least + self.rate * (self.kernel - 1) - 2 * self.padding * self.rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One residual unit: its convolutions and its shortcut."""

    path: str
    preact: Layer | None  # the norm and ReLU before the convolutions (version 2)
    convs: tuple[Layer, ...]
    shortcut: Layer | None  # None in a plain network
    taps_preact: bool  # the input of the shortcut is the pre-activation, not the unit's input
    relu: bool  # a ReLU follows the addition (version 1)

    @property
    def stride(self) -> int:
        """The actual stride of the whole unit."""
        stride = 1
        for layer in self.convs:
            stride *= layer.stride
        return stride

    @property
    def channels(self) -> int:
        """The number of output channels."""
        return self.convs[-1].channels

    def layers(self) -> Iterator[Layer]:
        """Yields the layers of the unit in execution order."""
        first = (self.preact, self.shortcut)
        yield from (layer for layer in first if layer is not None)
        yield from self.convs


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All layers of a network, with the arguments that it was planned for."""

    table: Table
    dialect: Dialect
    in_channels: int
    num_classes: int | None  # None: no classifier
    output_stride: int | None
    global_pool: bool
    include_root: bool
    folded: bool  # norms are folded into the convolutions before them
    root: tuple[Layer, ...]
    body: tuple[Layer, ...]  # the layers of a network without blocks
    blocks: tuple[tuple[str, tuple[Unit, ...]], ...]  # (name, units) of each
    postnorm: Layer | None
    pool: Layer | None
    logits: Layer | None

    def units(self) -> Iterator[Unit]:
        """Yields every unit, from the first block to the last."""
        for _, units in self.blocks:
            yield from units

    def head(self) -> tuple[Layer, ...]:
        """Returns the layers after the last block."""
        return tuple(row for row in (self.postnorm, self.pool, self.logits) if row is not None)

    def layers(self) -> Iterator[Layer]:
        """Yields every layer in execution order."""
        yield from self.root
        yield from self.body
        for unit in self.units():
            yield from unit.layers()
        yield from self.head()

    @property
    def stride(self) -> int:
        """The number of input pixels between two neighbours on the last map."""
        stride = 1
        for layer in (*self.root, *self.body):
            stride *= layer.stride
        for unit in self.units():
            stride *= unit.stride
        return stride

    @property
    def features(self) -> int:
        """The number of channels of the features before the logits."""
        if self.postnorm is not None:
            return self.postnorm.channels
        last = self.blocks[-1][1][-1] if self.blocks else (*self.root, *self.body)[-1]
        return last.channels
