"""Makes the symbol of a ResNet that Gluon's save_parameters wrote, from the names of its arrays.

Such a file has no symbol. The names are those of the attributes of the class, in MXNet 1.9's
gluon/model_zoo/vision/resnet.py, which decides the strides too. The symbol made here is what the
class exports.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from forebear.weights.readers.onnx.tensors import Tensor

STRIDES = (
    "this file has no graph: it is read as the ResNet of MXNet 1.9's Gluon. Versions 1 of "
    "bottlenecks there have strides in the first 1x1 convolutions"
)
_UNIT = re.compile(r"features\.(\d{1,4})\.(\d{1,4})\.(body\.0|conv1)\.weight")
_ROOT = 7  # pixels: the kernel of the root; others have no stride and no pool
_NORM = ("gamma", "beta", "running_mean", "running_var")


def symbol_of_arrays(arrays: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Returns the symbol of a network of Gluon's model zoo; None if arrays have other names."""
    units = sorted((int(m[1]), int(m[2])) for name in arrays if (m := _UNIT.fullmatch(name)))
    if not units or "output.weight" not in arrays:
        return None
    made = _Symbol(arrays)
    pre = f"features.{units[0][0]}.{units[0][1]}.conv1.weight" in arrays
    x = made.root(
        "features.", 1 if pre else 0, made.norm(0, "features.0", fixed=True) if pre else 0
    )
    for stage, place in units:
        stride = 2 if place == 0 and stage > units[0][0] else 1
        unit = made.unit_v2 if pre else made.unit_v1
        x = unit(x, f"features.{stage}.{place}", stride)
    if pre:
        x = made.relu(made.norm(x, f"features.{units[-1][0] + 1}"))
    x = made.add("Pooling", [x], pool_type="avg", global_pool="True", kernel="(7, 7)")
    made.add(
        "FullyConnected", [made.add("Flatten", [x]), *made.variables("output", ("weight", "bias"))]
    )
    return {"nodes": made.nodes}


class _Symbol:
    """Nodes of a symbol. The first is the input."""

    def __init__(self, arrays: Mapping[str, Tensor]) -> None:
        self._arrays = arrays
        self.nodes: list[dict[str, Any]] = [{"op": "null", "name": "data", "inputs": []}]

    def add(self, op: str, inputs: list[int], name: str = "", **settings: str) -> int:
        """Adds a node, and returns its number."""
        links = [[number, 0, 0] for number in inputs]
        name = name or f"{op.lower()}{len(self.nodes)}"
        self.nodes.append({"op": op, "name": name, "attrs": settings, "inputs": links})
        return len(self.nodes) - 1

    def variables(self, path: str, kinds: tuple[str, ...]) -> list[int]:
        """Adds the arrays of a layer that the file has."""
        names = (f"{path}.{kind}" for kind in kinds)
        return [self.add("null", [], name) for name in names if name in self._arrays]

    def conv(self, x: int, path: str, stride: int = 1) -> int:
        """Adds a convolution; its kernel is that of its array, and its padding half of it."""
        array = self._arrays.get(f"{path}.weight")
        kernel = array.shape[2] if array is not None and len(array.shape) == 4 else 0
        return self.add(
            "Convolution", [x, *self.variables(path, ("weight", "bias"))], f"{path}.forward",
            kernel=f"({kernel}, {kernel})", stride=f"({stride}, {stride})",
            pad=f"({kernel // 2}, {kernel // 2})",
        )  # fmt: skip

    def norm(self, x: int, path: str, *, fixed: bool = False) -> int:
        """Adds a norm, whose factor is 1 if it is fixed."""
        inputs = [x, *self.variables(path, _NORM)]
        return self.add("BatchNorm", inputs, f"{path}.forward", eps="1e-5", fix_gamma=str(fixed))

    def relu(self, x: int) -> int:
        """Adds a ReLU."""
        return self.add("Activation", [x], act_type="relu")

    def root(self, prefix: str, place: int, x: int) -> int:
        """Adds the root: a convolution of 7 pixels with a norm and a pool, or one convolution."""
        array = self._arrays.get(f"{prefix}{place}.weight")
        large = array is not None and array.shape[2:] == (_ROOT, _ROOT)
        x = self.conv(x, f"{prefix}{place}", 2 if large else 1)
        if not large:
            return x
        x = self.relu(self.norm(x, f"{prefix}{place + 1}"))
        return self.add("Pooling", [x], kernel="(3, 3)", stride="(2, 2)", pad="(1, 1)")

    def unit_v1(self, x: int, path: str, stride: int) -> int:
        """Adds a unit of version 1: a norm after each convolution, and the stride in the first."""
        convs = [place for place in (0, 3, 6) if f"{path}.body.{place}.weight" in self._arrays]
        y = x
        for place in convs:
            y = self.conv(
                self.relu(y) if place else y, f"{path}.body.{place}", 1 if place else stride
            )
            y = self.norm(y, f"{path}.body.{place + 1}")
        if f"{path}.downsample.0.weight" in self._arrays:
            x = self.norm(self.conv(x, f"{path}.downsample.0", stride), f"{path}.downsample.1")
        return self.relu(self.add("elemwise_add", [x, y]))

    def unit_v2(self, x: int, path: str, stride: int) -> int:
        """Adds a unit of version 2: a norm before each convolution, the stride in the 3x3."""
        convs = [place for place in (1, 2, 3) if f"{path}.conv{place}.weight" in self._arrays]
        strided = 2 if len(convs) == 3 else 1
        y = x
        for place in convs:
            y = self.relu(self.norm(y, f"{path}.bn{place}"))
            if place == 1 and f"{path}.downsample.weight" in self._arrays:
                x = self.conv(y, f"{path}.downsample", stride)
            y = self.conv(y, f"{path}.conv{place}", stride if place == strided else 1)
        return self.add("elemwise_add", [y, x])
