"""What a picture goes through before a network sees it, as data.

The records say what was published with the weights; `forebear.data.preprocess` carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Resize = Literal["shorter", "central", "square", "none"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "tf-bilinear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """From a picture to the numbers a network was trained on: (scale * pixel - mean) / std."""

    size: int  # side in pixels of the square that the network is given
    resize: Resize  # shorter: shorter side to `side`, then centre crop; central: see `side`
    side: int  # pixels: of the shorter side before the crop ("shorter"); otherwise equal to size
    central: float  # share of each side kept before the resize ("central"), 1.0 keeps all
    interpolation: Interpolation  # tf-bilinear: TensorFlow 1's resize_bilinear, no antialias
    order: Literal["RGB", "BGR", "L"]  # L: one grey channel
    scale: float  # factor on pixel values 0..255
    mean: tuple[float, ...]  # per channel, in `order`, after the scale
    std: tuple[float, ...]  # per channel, in `order`

    @property
    def channels(self) -> int:
        """Channels of the tensor that comes out."""
        return len(self.mean)
