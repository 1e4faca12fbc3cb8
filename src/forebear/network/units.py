"""The two residual units. Basic and bottleneck units differ only in their planned layers."""

from __future__ import annotations

from torch import Tensor, nn, relu

from forebear.network.layers import make
from forebear.network.plan.plan import Unit
from forebear.tables.dialects import Dialect


class _Unit(nn.Module):
    """A residual unit: its convolutions, and its shortcut if it has one.

    Shape: [N, in_channels, H, W] -> [N, channels, ceil(H / stride), ceil(W / stride)].
    """

    def __init__(self, unit: Unit, dialect: Dialect) -> None:
        super().__init__()
        self.shortcut = None if unit.shortcut is None else make(unit.shortcut, dialect)
        self.convs = tuple(layer.name for layer in unit.convs)
        for layer in unit.convs:
            self.add_module(layer.name, make(layer, dialect))

    def residual(self, x: Tensor) -> Tensor:
        """Returns f(x): the convolutions, applied one after the other."""
        for name in self.convs:
            x = self.get_submodule(name)(x)
        return x


class UnitV1(_Unit):
    """relu(shortcut(x) + f(x)), each convolution of f with its norm: He et al. 2015, figure 5."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns the activations. A plain network has no shortcut."""
        if self.shortcut is None:
            return relu(self.residual(x))
        return relu(self.shortcut(x) + self.residual(x))


class UnitV2(_Unit):
    """shortcut + f(p), with the pre-activation p = relu(norm(x)): He et al. 2016, figure 1 (b)."""

    def __init__(self, unit: Unit, dialect: Dialect) -> None:
        super().__init__(unit, dialect)
        self.preact = None if unit.preact is None else make(unit.preact, dialect)
        self.taps_preact = unit.taps_preact  # projections take p as their input, identities take x

    def forward(self, x: Tensor) -> Tensor:
        """Returns the sum, without a ReLU. A plain network has no shortcut."""
        p = x if self.preact is None else self.preact(x)
        if self.shortcut is None:
            return self.residual(p)
        shortcut: Tensor = self.shortcut(p if self.taps_preact else x)
        return shortcut + self.residual(p)


def make_unit(unit: Unit, dialect: Dialect) -> nn.Module:
    """Returns the module of one planned unit."""
    return UnitV1(unit, dialect) if unit.relu else UnitV2(unit, dialect)
