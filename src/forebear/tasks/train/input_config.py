"""The part of a recipe that says how large the images are, and how they are mixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from forebear.limits import INPUT_SIDE
from forebear.settings import setting

InputResize = Literal["crop", "pad", "squash"]


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """The sizes of images, and how they are mixed."""

    size: int = setting(
        0,
        help="input size in training, the side of a square or the height; 0: by the data",
        unit="pixels",
        least=0,
        most=INPUT_SIDE,
    )
    width: int = setting(
        0,
        help="width of the input, if it is no square; 0: as size",
        unit="pixels",
        least=0,
        most=INPUT_SIDE,
        needs=("size",),
    )
    resize: InputResize = setting(
        "crop",
        off="crop",
        help="how images are brought to the input size; crop: the shorter side is resized, and the "
        "middle is cut out; pad: the whole image is resized to fit, and the rest is black; squash: "
        "the whole image is resized without keeping its aspect ratio",
    )
    size_from: int = setting(
        0,
        help="input size at the start of a run in which it grows; 0: it does not grow",
        unit="pixels",
        least=0,
        most=INPUT_SIDE,
    )
    growth: tuple[float, float] = setting(
        (0.0, 1.0),
        help="fractions of the run between which the input size grows",
        needs=("size_from",),
    )
    eval_size: int = setting(
        0,
        help="input size of validation images; 0: as size",
        unit="pixels",
        least=0,
        most=INPUT_SIDE,
    )
    eval_side: int = setting(
        0,
        help="shorter side of validation images before the centre crop; 0: by eval_size",
        unit="pixels",
        least=0,
        most=INPUT_SIDE,
    )
    mixup: float = setting(
        0.0, help="alpha of the Beta distribution that blends images; 0: none", least=0
    )
    cutmix: float = setting(
        0.0,
        help="alpha of the Beta distribution that exchanges patches; 0: none; with mixup too: one "
        "of both per batch",
        least=0,
    )
    repeated_augmentation: int = setting(
        1, help="views of an image in one batch (Hoffer et al. 2019)", least=1, off=1
    )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the input in training in pixels; 0 if the data choose them."""
        return self.size, self.width or self.size

    def check_shape(self) -> None:
        """Refuses what only a square input can have.

        Raises:
            ValueError: The input is a rectangle without a height, or with another size.
        """
        if not self.width or self.width == self.size:
            return
        if not self.size:
            raise ValueError(
                f"width={self.width} without size: expected the height too. Pass --size "
                f"HEIGHTx{self.width}, or set size."
            )
        if self.size_from or self.eval_size not in (0, self.size):
            name = "size_from" if self.size_from else "eval_size"
            raise ValueError(
                f"{name}={getattr(self, name)} with an input of {self.size}x{self.width} pixels: "
                f"only a square input can have another size. Expected {name}=0. Leave it out, or "
                "pass a square size."
            )
