"""A network, spelled out: every layer with its channels, stride, rate and padding.

Pure: no torch. `spell.py` makes these rows from a table and a dialect, and the builder turns them
into modules; weight names, shapes, counts, end points and drawings are read off them, so that
nothing is said twice.
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
    """One layer, spelled out; its path is its module's path and its end point's name."""

    path: str
    kind: Kind
    in_channels: int
    channels: int  # given out
    kernel: int = 1  # pixels, square
    step: int = 1  # nominal stride
    stride: int = 1  # the stride taken: the step, or 1 where it became a rate
    rate: int = 1  # dilation of the kernel, `dense` included
    dense: int = 1  # product of the steps before this layer that became a rate
    padding: int | Literal["same"] = 0  # pixels on each side at rate 1; same: TensorFlow's
    fill: Literal["lowest", "zero"] = "zero"  # what lies beyond the border
    groups: int = 1
    bias: bool = False
    norm: bool = False  # a norm follows the convolution
    activation: Activation = "none"  # the last of the layer
    zeros: tuple[int, int] = (0, 0)  # identity: channels put before and after
    side: int = 0  # average: of the map given out
    share: float = 0.0  # dropout: of the values dropped

    @property
    def relu(self) -> bool:
        """Whether it ends in a ReLU, so that nothing given out is below zero."""
        return self.activation == "relu"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    def out_side(self, side: int) -> int:
        """Pixels along one side given out for `side` pixels coming in; below 1 where none fit."""
        if self.kind in ("mean", "average"):
            return self.side or 1
        if self.padding == "same" or self.kind == "identity":
            return -(-side // self.stride)
        reach = self.rate * (self.kernel - 1)
        room = side + 2 * self.padding * self.rate - reach
        return (room - 1) // self.stride + 1 if room > 0 else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One residual unit: its convolutions, and the shortcut around them."""

    path: str
    preact: Layer | None  # the norm and ReLU before the convolutions (version 2)
    convs: tuple[Layer, ...]
    shortcut: Layer | None  # None in a plain network
    taps_preact: bool  # the shortcut starts from the pre-activation, not from the input
    relu: bool  # after the addition (version 1)

    @property
    def stride(self) -> int:
        """The stride taken by the whole unit."""
        stride = 1
        for layer in self.convs:
            stride *= layer.stride
        return stride

    @property
    def channels(self) -> int:
        """Channels given out."""
        return self.convs[-1].channels

    def layers(self) -> Iterator[Layer]:
        """The unit's layers in the order in which they run."""
        first = (self.preact, self.shortcut)
        yield from (layer for layer in first if layer is not None)
        yield from self.convs


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A network, spelled out."""

    table: Table
    dialect: Dialect
    in_channels: int
    num_classes: int | None  # None: features before the logits
    output_stride: int | None
    global_pool: bool
    include_root: bool
    folded: bool  # norms after convolutions are part of them
    root: tuple[Layer, ...]
    body: tuple[Layer, ...]  # the layers of a network without blocks
    blocks: tuple[tuple[str, tuple[Unit, ...]], ...]  # each with its name
    postnorm: Layer | None
    pool: Layer | None
    logits: Layer | None

    def units(self) -> Iterator[Unit]:
        """Every unit, from the first block to the last."""
        for _, units in self.blocks:
            yield from units

    def head(self) -> tuple[Layer, ...]:
        """What follows the last block."""
        return tuple(row for row in (self.postnorm, self.pool, self.logits) if row is not None)

    def layers(self) -> Iterator[Layer]:
        """Every layer in the order in which they run."""
        yield from self.root
        yield from self.body
        for unit in self.units():
            yield from unit.layers()
        yield from self.head()

    @property
    def stride(self) -> int:
        """Input pixels between two neighbours on the last map."""
        stride = 1
        for layer in (*self.root, *self.body):
            stride *= layer.stride
        for unit in self.units():
            stride *= unit.stride
        return stride

    @property
    def features(self) -> int:
        """Channels of the features before the logits."""
        if self.postnorm is not None:
            return self.postnorm.channels
        last = self.blocks[-1][1][-1] if self.blocks else (*self.root, *self.body)[-1]
        return last.channels
