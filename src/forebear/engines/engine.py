"""What an engine is: a network that answers batches of images as fast as one runtime can.

Nothing here imports torch, so that a program with a finished graph starts without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

EngineName = Literal["torch", "compile", "onnxruntime", "openvino"]
EnginePrecision = Literal["fp32", "bf16", "int8"]
Pixels = NDArray[np.uint8] | NDArray[np.float32]

# The extra to install, and the module that must be importable.
LIBRARIES: dict[EngineName, tuple[str, str]] = {
    "torch": ("", "torch"),
    "compile": ("", "torch"),
    "onnxruntime": ("onnx", "onnxruntime"),
    "openvino": ("openvino", "openvino"),
}


class Engine(Protocol):
    """A network in evaluation mode, ready for batches of one input size."""

    name: EngineName
    precision: EnginePrecision

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """Returns the logits, [N, classes].

        Args:
            pixels: Images as `forebear.data.images.preprocess.fit` returns them, stacked:
                [N, H, W, C] in 0..255, RGB or greyscale, uint8, or float32 for
                "tf-bilinear". The engine applies the mean, the scale and the channel order itself.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """The engine that a user asks for."""

    engine: EngineName | Literal["auto"] = "auto"
    precision: EnginePrecision | Literal["auto"] = "auto"
    batch: int = 1  # images at a time that speed is measured for; other batches work too
    threads: int | None = None  # None: all cores that the process may use
    device: str = "cpu"  # cpu, cuda or cuda:N


def missing_library(name: EngineName) -> str:
    """Returns a sentence that says what to install for an engine, or "" if it is installed."""
    import importlib.util

    extra, module = LIBRARIES[name]
    if importlib.util.find_spec(module) is not None:
        return ""
    return (
        f"engine={name}: {module} is not installed. Expected one of the installed engines. "
        f"Run pip install 'forebear[{extra}]', or pass --engine auto."
    )


def as_dtype(pixels: Pixels, dtype: Any) -> Pixels:
    """Returns contiguous pixels in the dtype that a graph takes; for uint8, rounded and clipped."""
    if pixels.dtype != dtype and dtype == np.uint8:
        pixels = np.rint(pixels).clip(0, 255)
    return np.ascontiguousarray(pixels, dtype)
