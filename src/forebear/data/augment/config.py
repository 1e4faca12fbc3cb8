"""What training images go through, as a record; `pipeline.py` carries it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from forebear.settings import setting

Crop = Literal["auto", "shift", "resized", "middle"]
Mirror = Literal["auto", "random", "alternate", "none"]
Border = Literal["black", "reflect"]
Policy = Literal["auto", "none", "randaugment", "trivialaugment"]


@dataclass(frozen=True, kw_only=True)
class Augment:
    """How each training image is cut, mirrored, coloured and blanked.

    "auto" and -1 stand for choices that `resolve_recipe` makes by the data. `pipeline.augment`
    takes a record without them.
    """

    crop: Crop = setting(
        "shift",
        help="shift: moved by some pixels; resized: a random part, resized; middle: the centre; "
        "auto: by the input size",
    )
    shift: int = setting(
        -1,
        help="the largest shift to each side; -1: an eighth of the input size",
        unit="pixels",
        least=-1,
        needs=("crop", "shift"),
    )
    border: Border = setting(
        "black", help="what a shift brings in from outside the image", needs=("crop", "shift")
    )
    crop_scale: tuple[float, float] = setting(
        (0.08, 1.0),
        help="the smallest and largest fraction of the area",
        needs=("crop", "resized"),
    )
    crop_ratio: tuple[float, float] = setting(
        (3 / 4, 4 / 3),
        help="the smallest and largest ratio of width to height, over that of the input",
        needs=("crop", "resized"),
    )
    mirror: Mirror = setting(
        "auto",
        help="swap left and right. alternate: at random in the first epoch, then in turns; auto: "
        "random unless the data are digits",
    )
    policy: Policy = setting(
        "none",
        help="the augmentation policy. auto: randaugment, or none if images are not mirrored or "
        "have other than 1 or 3 channels",
    )
    operations: int = setting(
        2, help="operations per image", least=1, needs=("policy", "randaugment")
    )
    magnitude: float = setting(
        9.0, help="strength of the operations, 0 to 10", least=0, needs=("policy", "randaugment")
    )
    magnitude_std: float = setting(
        0.0, help="standard deviation of the strength", least=0, needs=("policy", "randaugment")
    )
    jitter: float = setting(
        0.0, help="the largest relative change of brightness, contrast and saturation", least=0
    )
    lighting: float = setting(
        0.0,
        help="standard deviation of the noise along ImageNet's principal colours "
        "(Krizhevsky et al. 2012, section 4.1)",
        least=0,
    )
    cutout: int = setting(0, help="side of the square that is blanked", unit="pixels", least=0)
    random_erasing: float = setting(
        0.0, help="fraction of images in which a random rectangle is blanked", least=0, below=1
    )
