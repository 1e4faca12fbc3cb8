"""Layers and units that use the kernels in this folder in training on a CPU.

Each class computes the same as its base class, up to rounding. It uses the kernels in training
only, and only if they support the tensors. In evaluation mode, and while torch compiles or exports
the network, it runs the code of its base class.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forebear.network.kernels import fused_norm, max_pool
from forebear.network.kernels.conv_geometry import Window
from forebear.network.kernels.convolution import convolve, fork
from forebear.network.layers import BiasedNorm, Conv, Norm, Pool, activate, pads
from forebear.network.plan.plan import Activation
from forebear.network.units import UnitV1, UnitV2


class FastConv(Conv):
    """A `Conv` with a faster convolution, and with its norm and activation as one operation."""

    winograd = True  # whether Winograd's algorithm may be used; its sums are rounded otherwise

    def forward(self, x: Tensor) -> Tensor:
        """Returns what `Conv` returns."""
        if not _is_active(self):
            return super().forward(x)
        return self._finished(self._convolved(x), self.layer.activation)

    def added(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """Returns relu(shortcut + norm(conv(x))), in training only.

        Norm, addition and ReLU are one operation if the kernels support it.
        """
        return self._finished(self._convolved(x), "relu", shortcut)

    def forked(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns x for the convolutions of a unit, and this layer's output as the shortcut.

        If this layer is a strided 1x1 convolution, its input gradient is added in place to the
        input gradient of the unit's convolutions. Hooks must not see that gradient before.
        """
        strided = self.layer.kernel == 1 and self.layer.stride > 1
        window = self._window(x) if strided and _is_active(self) else None
        if window is None or x.dtype != _compute_dtype(x) or watched(self):
            return x, self(x)
        x, y = fork(window, x, self.conv.weight)
        return x, self._finished(self._biased(y), self.layer.activation)

    def _finished(
        self, y: Tensor, activation: Activation, shortcut: Tensor | None = None
    ) -> Tensor:
        """Returns activation(shortcut + norm(y))."""
        if self.norm is not None:
            return _normed(self.norm, y, activation, shortcut)
        return activate(y if shortcut is None else shortcut + y, activation)

    def _convolved(self, x: Tensor) -> Tensor:
        """Returns the convolution of x, computed by the kernels if they are faster than torch."""
        window, given = self._window(x), x
        if window is not None:
            left, right, above, below = around = pads(self.layer, x)
            if (left, above) != (right, below) and not window.sees_all(*x.shape[2:]):
                given = F.pad(x, around)
                window = replace(window, top=0, left=0)
            given = given.to(_compute_dtype(x))
            found = convolve(window, given, self.conv.weight, winograd=self.winograd)
            if found is not None:
                return self._biased(found)
        y: Tensor = self.conv(self.aligned(x))
        return y

    def _window(self, x: Tensor) -> Window | None:
        """Returns the geometry of the convolution, or None if the kernels do not support it."""
        layer, weight = self.layer, self.conv.weight
        if (
            x.device.type != "cpu"
            or _compute_dtype(x) not in (torch.bfloat16, torch.float32)
            or weight.dtype != torch.float32
            or not x.is_contiguous(memory_format=torch.channels_last)
            or watched(self.conv)
        ):
            return None
        left, _, above, _ = pads(layer, x)
        return Window(
            kernel=layer.kernel,
            stride=layer.stride,
            top=above,
            left=left,
            height=layer.out_side(x.shape[2]),
            width=layer.out_side(x.shape[3]),
            groups=layer.groups,
            rate=1 if layer.kernel == 1 else layer.rate,
        )

    def _biased(self, y: Tensor) -> Tensor:
        """Returns y plus the bias of the convolution, if it has one."""
        bias = self.conv.bias
        return y if bias is None else y + bias.to(y.dtype)[:, None, None]


class FastNorm(Norm):
    """A `Norm` whose norm and activation are one operation."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns what `Norm` returns."""
        if not _is_active(self):
            return super().forward(x)
        return _normed(self.norm, x, self.activation)


class FastPool(Pool):
    """A `Pool` whose backward pass writes each gradient value once."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns what `Pool` returns."""
        layer = self.layer
        if _is_active(self) and layer.fill == "lowest" and layer.rate == 1:
            around = pads(layer, x)
            if max_pool.fits(x, layer.kernel, around):
                return max_pool.max_pool(x, layer.kernel, layer.stride, around)
        return super().forward(x)


class FastUnitV1(UnitV1):
    """A `UnitV1` whose last norm, the addition and the ReLU are one operation."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns what `UnitV1` returns."""
        if self.shortcut is None or not _is_active(self):
            return super().forward(x)
        x, shortcut = _forked(self, self.shortcut, x)
        *others, last = (self.get_submodule(name) for name in self.convs)
        if not isinstance(last, FastConv) or not _is_active(last) or watched(last):
            return F.relu(shortcut + self.residual(x))
        for conv in others:
            x = conv(x)
        return last.added(x, shortcut)


class FastUnitV2(UnitV2):
    """A `UnitV2` whose projection adds its input gradient in place to that of the convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns what `UnitV2` returns."""
        if self.shortcut is None or not self.taps_preact or not _is_active(self):
            return super().forward(x)
        p = x if self.preact is None else self.preact(x)
        p, shortcut = _forked(self, self.shortcut, p)
        return shortcut + self.residual(p)


FAST: dict[type[nn.Module], type[nn.Module]] = {
    Conv: FastConv,
    Norm: FastNorm,
    Pool: FastPool,
    UnitV1: FastUnitV1,
    UnitV2: FastUnitV2,
}  # the replacement of each plain class; other subclasses keep their own `forward`


def watched(module: nn.Module) -> bool:
    """Whether hooks observe the inputs, outputs or gradients of the module.

    Such a module must be called, because a fused operation would skip its hooks. Global hooks
    apply to every module.
    """
    hooks = (
        *(module._forward_pre_hooks, module._forward_hooks),
        *(module._backward_pre_hooks, module._backward_hooks),
    )
    everywhere: bool = nn.modules.module._has_any_global_hook()  # type: ignore[no-untyped-call]
    return everywhere or any(hooks)


def _is_active(module: nn.Module) -> bool:
    """Whether the module is in training mode, and torch is not compiling or exporting it."""
    return module.training and not torch.compiler.is_compiling()


def _compute_dtype(x: Tensor) -> torch.dtype:
    """Returns the compute dtype of a convolution of x: autocast's if it is enabled, or x's."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _normed(
    norm: nn.BatchNorm2d, x: Tensor, activation: Activation, shortcut: Tensor | None = None
) -> Tensor:
    """Returns activation(shortcut + norm(x)), as one operation if the kernels support it."""
    biased = type(norm) is BiasedNorm
    known = biased or type(norm) is nn.BatchNorm2d
    if known and fused_norm.fits(norm, x, shortcut, activation) and not watched(norm):
        return fused_norm.normed(norm, x, shortcut, activation=activation, biased=biased)
    x = norm(x)
    return activate(x if shortcut is None else shortcut + x, activation)


def _forked(unit: UnitV1 | UnitV2, shortcut: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns x for the convolutions of the unit, and shortcut(x)."""
    first = unit.get_submodule(unit.convs[0])
    if isinstance(shortcut, FastConv) and not any(map(watched, first.modules())):
        return shortcut.forked(x)
    return x, shortcut(x)
