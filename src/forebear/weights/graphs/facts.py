"""What a graph says of a residual network: its layers, with the nodes that they were read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from forebear.tables.preprocessing import Preprocessing
from forebear.weights.readers.onnx.records import Node

Pads = tuple[int, int, int, int]  # above, left, below, right, in pixels


class StrangerError(Exception):
    """A node is not that of a network of forebear's. The message names it, without a full stop.

    `expected` says what would have been there, and `hint` which other network has the node.
    """

    def __init__(self, what: str, expected: str, hint: str = "") -> None:
        super().__init__(what)
        self.what, self.expected, self.hint = what, expected, hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The geometry of a convolution or a pool."""

    kernel: int  # side in pixels
    stride: int
    rate: int
    pads: Pads | Literal["same"]  # same: TensorFlow's padding, for any input size
    side: int | None  # of the input map in pixels; None if the graph takes any size

    @property
    def out_side(self) -> int | None:
        """The side of the output map in pixels."""
        if self.side is None:
            return None
        if self.pads == "same":
            return -(-self.side // self.stride)
        around = self.pads[0] + self.pads[2]
        return (self.side + around - self.rate * (self.kernel - 1) - 1) // self.stride + 1

    def pads_equally(self, padding: int) -> bool:
        """Whether it pads both sides by `padding` pixels, which the rate multiplies."""
        if self.pads == "same":
            whole = self.stride == 1 and self.kernel % 2 == 1
            return whole and padding == self.kernel // 2
        return self.pads == (padding * self.rate,) * 4

    @property
    def pads_same(self) -> bool:
        """Whether it pads as TensorFlow's SAME does, for the size of the map."""
        if self.pads == "same":
            return True
        if self.side is None:
            return False
        out = -(-self.side // self.stride)
        total = max((out - 1) * self.stride + self.rate * (self.kernel - 1) + 1 - self.side, 0)
        before, after = total // 2, total - total // 2
        return self.pads == (before, before, after, after)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NormFact:
    """A batch norm with its arrays, by name."""

    node: Node
    weight: str
    bias: str
    mean: str
    variance: str
    epsilon: float
    channels: int
    relu: bool = False  # a ReLU follows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConvFact:
    """A convolution, its norm and its ReLU."""

    node: Node
    weight: str
    bias: str | None
    channels: int
    in_channels: int
    groups: int
    window: Window
    norm: NormFact | None
    relu: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoolFact:
    """A max pool."""

    node: Node
    window: Window
    fill: Literal["lowest", "zero"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepFact:
    """A part of a shortcut without weights: every `stride`-th pixel, and channels of zeros."""

    node: Node
    stride: int = 1
    zeros: tuple[int, int] = (0, 0)  # before and after


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitFact:
    """A residual unit."""

    preact: NormFact | None
    convs: tuple[ConvFact, ...]
    shortcut: ConvFact | tuple[StepFact, ...]
    taps_preact: bool  # the shortcut starts from the pre-activation
    join: Node  # the addition
    relu: bool  # a ReLU follows the addition


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeadFact:
    """What follows the last unit."""

    postnorm: NormFact | None
    weight: str | None  # of the classifier; None: there is none
    bias: str | None
    transposed: bool  # the weight is [inputs, classes]
    scales: tuple[float, float]  # factors of the weight and of the bias
    classes: int | None
    softmax: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GraphFacts:
    """A whole residual network."""

    preprocessing: Preprocessing | None  # with what the graph does to its input; None: nothing
    in_channels: int
    root: tuple[ConvFact | PoolFact, ...]
    units: tuple[UnitFact, ...]
    head: HeadFact

    def convs(self) -> list[ConvFact]:
        """Returns every convolution."""
        inside = (
            conv
            for unit in self.units
            for conv in (*unit.convs, unit.shortcut)
            if isinstance(conv, ConvFact)
        )
        return [*(row for row in self.root if isinstance(row, ConvFact)), *inside]

    def norms(self) -> list[NormFact]:
        """Returns every norm."""
        found = [conv.norm for conv in self.convs()]
        found += [unit.preact for unit in self.units]
        return [norm for norm in (*found, self.head.postnorm) if norm is not None]
