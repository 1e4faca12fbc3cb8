"""Writes Torch7 files without Torch7: networks as fb.resnet.torch's models/resnet.lua has them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import forebear
from forebear.network.plan.plan import Layer, Unit

Array = NDArray[Any]
KINDS = {"f4": "Float", "f8": "Double", "i8": "Long", "u1": "Byte"}


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """An object of a class of Lua."""

    kind: str
    fields: Mapping[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """The values of an array without its shape."""

    values: Array


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A function of Lua, with the type that the version of Torch7 writes."""

    kind: int = 8


class Writer:
    """Writes objects as torch7's File.lua does."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.known: dict[int, int] = {}  # id to index
        self.kept: list[object] = []  # so that no id is used twice

    def integer(self, value: int) -> None:
        self.parts.append(struct.pack("<i", value))

    def longs(self, *values: int) -> None:
        self.parts.append(struct.pack(f"<{len(values)}q", *values))

    def text(self, value: str) -> None:
        self.integer(len(value))
        self.parts.append(value.encode("latin-1"))

    def indexed(self, kind: int, value: object) -> bool:
        """Writes the type and the index; returns whether the object is new."""
        self.integer(kind)
        self.kept.append(value)
        new = id(value) not in self.known
        self.integer(self.known.setdefault(id(value), len(self.known) + 1))
        return new

    def write(self, value: Any) -> None:
        if value is None:
            self.integer(0)
        elif isinstance(value, bool):
            self.integer(5)
            self.integer(int(value))
        elif isinstance(value, int | float):
            self.integer(1)
            self.parts.append(struct.pack("<d", value))
        elif isinstance(value, str):
            self.integer(2)
            self.text(value)
        elif isinstance(value, Function):
            self.function(value)
        elif isinstance(value, dict):
            if self.indexed(3, value):
                self.integer(len(value))
                for key, own in value.items():
                    self.write(key)
                    self.write(own)
        elif isinstance(value, np.ndarray):
            self.array(value)
        elif isinstance(value, Storage):
            self.storage(value)
        elif self.indexed(4, value):
            self.text("V 1")
            self.text(value.kind)
            self.write(dict(value.fields))

    def function(self, value: Function) -> None:
        if value.kind == 6:  # without an index
            self.integer(6)
        elif not self.indexed(value.kind, value):
            return
        self.text("\x1bLJ code")
        self.write({1: "upvalue"})

    def array(self, value: Array) -> None:
        if self.indexed(4, value):
            kind = KINDS[value.dtype.str[1:]]
            self.text("V 1")
            self.text(f"torch.{kind}Tensor")
            self.integer(value.ndim)
            steps = [int(np.prod(value.shape[n + 1 :])) for n in range(value.ndim)]
            self.longs(*value.shape, *steps, 1)
            self.storage(Storage(np.ascontiguousarray(value).reshape(-1)))

    def storage(self, value: Storage) -> None:
        if self.indexed(4, value):
            self.text("V 1")
            self.text(f"torch.{KINDS[value.values.dtype.str[1:]]}Storage")
            self.longs(len(value.values))
            self.parts.append(value.values.tobytes())


def written(value: Any) -> bytes:
    """The bytes of an object."""
    writer = Writer()
    writer.write(value)
    return b"".join(writer.parts)


def sequence(*modules: Made, kind: str = "nn.Sequential", **fields: Any) -> Made:
    return Made(kind, {"modules": dict(enumerate(modules, start=1)), "train": False} | fields)


def model_of(network: forebear.Network, *, library: str = "cudnn", old: bool = False) -> Made:
    """The modules of a network.

    Args:
        network: Its dialect pads equally on all sides.
        library: The package of its convolutions and ReLUs.
        old: Whether norms have the running_std of 2015, and kernels are matrices.
    """
    return _Maker(network, library, old=old).model()


class _Maker:
    def __init__(self, network: forebear.Network, library: str, *, old: bool) -> None:
        self.plan, self.library, self.old = network.plan, library, old
        self.state = {name: one.detach().numpy() for name, one in network.state_dict().items()}

    def model(self) -> Made:
        modules: list[Made] = []
        for layer in self.plan.root:
            if layer.kind == "conv":
                modules += [
                    *self.conv(layer),
                    *([self.relu()] if layer.activation != "none" else []),
                ]
            else:
                sides = window(layer, 1) | {"ceil_mode": False}
                modules.append(Made("nn.SpatialMaxPooling", sides))
        for _, units in self.plan.blocks:
            modules.append(sequence(*(self.unit(unit) for unit in units)))
        if self.plan.postnorm is not None:
            modules += [self.norm(self.plan.postnorm), self.relu()]
        channels = self.state["logits.weight"].shape[1]
        side = 7 if len(self.plan.root) > 1 else 8
        mean = {"kW": side, "kH": side, "dW": 1, "dH": 1, "padW": 0, "padH": 0, "ceil_mode": False}
        arrays = {"weight": self.state["logits.weight"], "bias": self.state["logits.bias"]}
        modules += [
            Made(f"{self.library}.SpatialAveragePooling", mean),
            Made(
                "nn.View",
                {"numElements": channels, "numInputDims": 3, "size": Storage(np.array([channels]))},
            ),
            Made("nn.Linear", arrays | {"gradWeight": np.empty(0, np.float32)}),
        ]
        return sequence(*modules)

    def unit(self, unit: Unit) -> Made:
        before = [] if unit.preact is None else [self.norm(unit.preact), self.relu()]
        shared, body = (before, []) if unit.taps_preact else ([], before)
        for layer in unit.convs:
            body = [*body, *self.conv(layer)]
            if layer is not unit.convs[-1]:
                body.append(self.relu())
        both = sequence(sequence(*body), self.shortcut(unit), kind="nn.ConcatTable")
        last = [self.relu()] if unit.relu else []
        return sequence(*shared, both, Made("nn.CAddTable", {"inplace": True}), *last)

    def shortcut(self, unit: Unit) -> Made:
        layer = unit.shortcut
        if layer is not None and layer.kind == "conv":
            return sequence(*self.conv(layer))
        if layer is None or layer.channels == layer.in_channels:
            return Made("nn.Identity")
        pool = {"kW": 1, "kH": 1, "dW": layer.stride, "dH": layer.stride, "ceil_mode": False}
        parts = [Made("nn.Identity"), Made("nn.MulConstant", {"constant_scalar": 0})]
        return sequence(
            Made("nn.SpatialAveragePooling", pool),
            sequence(*parts, kind="nn.Concat", dimension=2),
        )

    def relu(self) -> Made:
        fields = {"inplace": True} | ({"forget": Function()} if self.library == "cudnn" else {})
        return Made(f"{self.library}.ReLU", fields)

    def conv(self, layer: Layer) -> list[Made]:
        kernel = self.state[f"{layer.path}.conv.weight"]
        kernel = kernel.reshape(len(kernel), -1) if self.old else kernel
        size = {
            "nInputPlane": layer.in_channels, "nOutputPlane": layer.channels, "weight": kernel,
            "groups": layer.groups, **window(layer, layer.kernel // 2),
        }  # fmt: skip
        made = Made(f"{self.library}.SpatialConvolution", size)
        return [made, self.norm(layer)] if layer.norm else [made]

    def norm(self, layer: Layer) -> Made:
        own = {
            name: self.state[f"{layer.path}.{name}"]
            for name in ("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")
        }
        variance = own["norm.running_var"]
        norm = {
            "weight": own["norm.weight"], "bias": own["norm.bias"], "eps": 1e-5, "affine": True,
            "running_mean": own["norm.running_mean"],
        }  # fmt: skip
        if self.old:
            norm["running_std"] = 1 / np.sqrt(variance + 1e-5)
        else:
            norm["running_var"] = variance
        return Made("nn.SpatialBatchNormalization", norm)


def window(layer: Layer, pad: int) -> dict[str, int]:
    side, stride = layer.kernel, layer.stride
    return {"kW": side, "kH": side, "dW": stride, "dH": stride, "padW": pad, "padH": pad}
