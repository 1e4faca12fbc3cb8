"""The two residual units. Basic and bottleneck differ in their rows alone."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from forebear.network.layers import Conv, make, watched
from forebear.network.plan import Unit
from forebear.tables.dialects import Dialect


class _Unit(nn.Module):
    """The parts that both versions have: conv1, conv2, ..., and the shortcut."""

    def __init__(self, unit: Unit, dialect: Dialect) -> None:
        super().__init__()
        self.shortcut = None if unit.shortcut is None else make(unit.shortcut, dialect)
        self.convs = tuple(layer.name for layer in unit.convs)
        for layer in unit.convs:
            self.add_module(layer.name, make(layer, dialect))

    def fork(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The map for the unit's convolutions, and its shortcut where it has one."""
        shortcut = self.shortcut
        if isinstance(shortcut, Conv) and shortcut.fast:
            first = self.get_submodule(self.convs[0])
            if not any(watched(part) for part in first.modules()):
                return shortcut.fork(x)
        return x, None if shortcut is None else shortcut(x)

    def residual(self, x: Tensor) -> Tensor:
        """f(x): the unit's convolutions, one after the other."""
        for name in self.convs:
            x = self.get_submodule(name)(x)
        return x


class UnitV1(_Unit):
    """relu(shortcut(x) + f(x)), each convolution of f with its norm: He et al. 2015, figure 5.

    Shape: [N, in_channels, H, W] -> [N, channels, ceil(H / stride), ceil(W / stride)].
    """

    def forward(self, x: Tensor) -> Tensor:
        """Gives the unit's output, after the ReLU."""
        last = self.get_submodule(self.convs[-1])
        x, short = self.fork(x)
        if short is not None and isinstance(last, Conv) and last.fast and not watched(last):
            for name in self.convs[:-1]:
                x = self.get_submodule(name)(x)
            out: Tensor = last(x, added=short)
            return out
        y = self.residual(x)
        return F.relu(y if short is None else short + y)


class UnitV2(_Unit):
    """shortcut + f(p), p = relu(norm(x)) the pre-activation: He et al. 2016, figure 1 (b).

    A projection starts from p, an identity from the raw x.
    Shape: [N, in_channels, H, W] -> [N, channels, ceil(H / stride), ceil(W / stride)].
    """

    def __init__(self, unit: Unit, dialect: Dialect) -> None:
        super().__init__(unit, dialect)
        self.preact = None if unit.preact is None else make(unit.preact, dialect)
        self.taps_preact = unit.taps_preact

    def forward(self, x: Tensor) -> Tensor:
        """Gives the unit's output; no ReLU follows the addition."""
        p = x if self.preact is None else self.preact(x)
        if self.taps_preact:
            p, short = self.fork(p)
        else:
            short = None if self.shortcut is None else self.shortcut(x)
        y = self.residual(p)
        return y if short is None else short + y


def make_unit(unit: Unit, dialect: Dialect) -> nn.Module:
    """The module of one planned unit."""
    return UnitV1(unit, dialect) if unit.relu else UnitV2(unit, dialect)
