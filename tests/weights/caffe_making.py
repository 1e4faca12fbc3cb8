"""Writes Caffe models without Caffe, as KaimingHe/deep-residual-networks names their layers."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import forebear
from forebear.network.plan.plan import Layer
from forebear.tables.dialects import TORCHVISION_V1
from forebear.tables.preprocessing import CAFFE as COLOURS
from forebear.weights.writers.tensorflow.protobuf import message, number, varint

# The function of Caffe's ResNets: a stride in the first convolution, a pool without padding.
CAFFE = replace(
    TORCHVISION_V1,
    name="caffe",
    strided_conv="conv1",
    pool_padding="same",
    preprocessing=COLOURS,
)
Array = NDArray[np.float32]
# Settings: the number of their message in LayerParameter, and of their fields.
FIELDS = {
    "convolution_param": (106, {
        "num_output": 1, "bias_term": 2, "pad": 3, "kernel_size": 4, "group": 5, "stride": 6,
    }),
    "eltwise_param": (110, {"operation": 1}),
    "inner_product_param": (117, {"num_output": 1}),
    "pooling_param": (121, {"pool": 1, "kernel_size": 2, "stride": 3, "global_pooling": 12}),
    "batch_norm_param": (139, {"use_global_stats": 1, "eps": 3}),
    "scale_param": (142, {"bias_term": 4}),
}  # fmt: skip
WORDS = {("pooling_param", "pool"): ("MAX", "AVE"), ("eltwise_param", "operation"): ("PROD", "SUM")}


@dataclass(frozen=True, slots=True)
class Made:
    """A layer of a Caffe network."""

    name: str
    kind: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    blobs: tuple[Array, ...] = ()
    setting: str = ""
    values: Mapping[str, float] | None = None

    def binary(self) -> bytes:
        """Its LayerParameter."""
        words = [(1, self.name), (2, self.kind), *((3, one) for one in self.bottoms)]
        words += [(4, one) for one in self.tops]
        parts = [message(field, word.encode()) for field, word in words]
        parts += [message(7, blob(one)) for one in self.blobs]
        if self.setting:
            place, fields = FIELDS[self.setting]
            inside = [_value(fields[name], value) for name, value in (self.values or {}).items()]
            parts.append(message(place, *inside))
        return b"".join(parts)

    def text(self) -> str:
        """The layer in a .prototxt."""
        names = [f'bottom: "{one}"' for one in self.bottoms] + [
            f'top: "{one}"' for one in self.tops
        ]
        inside = " ".join(
            f"{name}: {_word(self.setting, name, value)}"
            for name, value in (self.values or {}).items()
        )
        setting = f"{self.setting} {{ {inside} }}" if self.setting else ""
        return f'layer {{ name: "{self.name}" type: "{self.kind}" {" ".join(names)} {setting} }}'


def _value(field: int, value: float) -> bytes:
    if isinstance(value, float):
        return varint(field << 3 | 5) + struct.pack("<f", value)
    return varint(field << 3) + varint(value)


def _word(setting: str, name: str, value: float) -> str:
    if (setting, name) in WORDS:
        return WORDS[setting, name][int(value)]
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def blob(values: NDArray[Any], *, old: bool = False) -> bytes:
    """A BlobProto with a shape, or as old files with four sides."""
    sides = (1, 1, 1, 1, *values.shape)[-4:]
    if old:
        dims = b"".join(number(field, side) for field, side in enumerate(sides, start=1))
    else:
        dims = message(7, message(1, *(varint(side) for side in values.shape)))
    double = values.dtype == np.float64
    return dims + message(8 if double else 5, values.tobytes())


def net(layers: list[Made], *, name: str = "ResNet", side: int | None = 224) -> bytes:
    """A NetParameter."""
    given = b""
    if side is not None:
        dims = [number(4, one) for one in (1, 3, side, side)]
        given = b"".join([message(3, b"data"), *dims])
    return b"".join(
        [message(1, name.encode()), given, *(message(100, one.binary()) for one in layers)]
    )


def prototxt(layers: list[Made], *, side: int = 224) -> str:
    """The same network without its arrays."""
    dims = " ".join(f"input_dim: {one}" for one in (1, 3, side, side))
    return "\n".join([f'name: "ResNet" input: "data" {dims}', *(one.text() for one in layers)])


def layers_of(network: forebear.Network, *, factor: float = 4.0, bias: bool = True) -> list[Made]:
    """The layers of a network in the dialect CAFFE.

    Args:
        network: Its root is a convolution and a pool.
        factor: What Caffe divides the statistics of norms by.
        bias: Whether the first convolution has a bias before its norm, as ResNet-50's has.
    """
    return [*_layers(network, factor, bias)]


def _layers(network: forebear.Network, factor: float, bias: bool) -> Iterator[Made]:
    state = {name: one.detach().numpy() for name, one in network.state_dict().items()}
    plan = network.plan
    root, pool = plan.root
    yield from _conv(root, state, "data", "conv1", "bn_conv1", "scale_conv1", factor, bias)
    yield Made("conv1_relu", "ReLU", ("conv1",), ("conv1",))
    yield Made(
        "pool1", "Pooling", ("conv1",), ("pool1",), (), "pooling_param",
        {"kernel_size": pool.kernel, "stride": pool.stride, "pool": 0},
    )  # fmt: skip
    x = "pool1"
    for number_of_block, (_, units) in enumerate(plan.blocks, start=2):
        for place, unit in enumerate(units):
            own = f"{number_of_block}{chr(ord('a') + place)}"
            y, short = x, x
            if unit.shortcut is not None and unit.shortcut.kind == "conv":
                short = f"res{own}_branch1"
                names = (short, f"bn{own}_branch1", f"scale{own}_branch1")
                yield from _conv(unit.shortcut, state, x, *names, factor, False)
            for letter, layer in zip("abc", unit.convs, strict=False):
                name = f"res{own}_branch2{letter}"
                names = (name, f"bn{own}_branch2{letter}", f"scale{own}_branch2{letter}")
                yield from _conv(layer, state, y, *names, factor, False)
                y = name
                if layer is not unit.convs[-1]:
                    yield Made(f"{name}_relu", "ReLU", (y,), (y,))
            yield Made(
                f"res{own}", "Eltwise", (short, y), (f"res{own}",), (), "eltwise_param",
                {"operation": 1},
            )  # fmt: skip
            x = f"res{own}"
            yield Made(f"{x}_relu", "ReLU", (x,), (x,))
    yield Made(
        "pool5", "Pooling", (x,), ("pool5",), (), "pooling_param",
        {"pool": 1, "global_pooling": True},
    )  # fmt: skip
    arrays = (state["logits.weight"], state["logits.bias"])
    count = len(arrays[1])
    yield Made(
        "fc1000", "InnerProduct", ("pool5",), ("fc1000",), arrays, "inner_product_param",
        {"num_output": count},
    )  # fmt: skip
    yield Made("prob", "Softmax", ("fc1000",), ("prob",))


def _conv(
    layer: Layer,
    state: dict[str, Array],
    x: str,
    name: str,
    norm: str,
    scale: str,
    factor: float,
    bias: bool,
) -> Iterator[Made]:
    """A convolution, its BatchNorm and its Scale; the last two write over their input."""
    own = {
        key: state[f"{layer.path}.{key}"]
        for key in (
            "conv.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
        )
    }  # fmt: skip
    shift = np.linspace(-0.5, 0.5, layer.channels, dtype=np.float32)
    values = {
        "num_output": layer.channels, "kernel_size": layer.kernel, "stride": layer.stride,
        "pad": layer.kernel // 2, "bias_term": bias, "group": layer.groups,
    }  # fmt: skip
    kernels = (own["conv.weight"], shift) if bias else (own["conv.weight"],)
    yield Made(name, "Convolution", (x,), (name,), kernels, "convolution_param", values)
    mean = own["norm.running_mean"] + (shift if bias else 0)
    statistics = (mean * factor, own["norm.running_var"] * factor, np.array([factor], np.float32))
    yield Made(
        norm, "BatchNorm", (name,), (name,), statistics, "batch_norm_param",
        {"use_global_stats": True, "eps": 1e-5},
    )  # fmt: skip
    yield Made(
        scale, "Scale", (name,), (name,), (own["norm.weight"], own["norm.bias"]), "scale_param",
        {"bias_term": True},
    )  # fmt: skip
