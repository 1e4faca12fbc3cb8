"""Evaluation preprocessing as data.

The records hold the preprocessing that was published with the weights.
`forebear.data.images.preprocess` applies them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from forebear.limits import IMAGE_CHANNELS, INPUT_SIDE, NUMBER
from forebear.tables.checks import check_words, is_count, is_number, refuse

Resize = Literal["shorter", "central", "square", "pad", "none"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "tf-bilinear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """The steps from an image to a network's input: resize, crop, (scale * pixel - mean) / std.

    Raises:
        ValueError: A value is not possible. The message names the field.
    """

    size: int  # height in pixels of the network's input, and its width unless `width` is given
    # shorter: resizes the shorter side to `side`, then takes a centre crop of `size`. If the input
    # is no square, the resized image just covers a box of height `side` and the input's ratio.
    # central: takes the `central` fraction of each side, then resizes it to `size`.
    # square: resizes to the input size without keeping the aspect ratio.
    # pad: resizes the image to fit inside the input, and fills the rest with black.
    # none: does not resize.
    resize: Resize
    side: int  # pixels: the shorter side before the crop ("shorter"); otherwise equal to size
    central: float  # fraction of each side kept before the resize ("central"); 1.0 keeps all
    interpolation: Interpolation  # tf-bilinear: TensorFlow 1's resize_bilinear, no antialias
    # L: one grey channel. any: as many channels as `mean` has, in the order of the file.
    order: Literal["RGB", "BGR", "L", "any"]
    scale: float  # factor on pixel values 0..255
    mean: tuple[float, ...]  # per channel, in `order`, after the scale
    std: tuple[float, ...]  # per channel, in `order`
    # Sample values of images with more than 8 bits that become pixel values 0 and 255; None: the
    # whole range that the file's samples can have.
    levels: tuple[float, float] | None = None
    width: int | None = None  # pixels: width of the input if it is no square; None: as size

    def __post_init__(self) -> None:
        where = "preprocessing"
        check_words(self, where)
        if self.width == self.size:
            object.__setattr__(self, "width", None)  # a square has one form, so that equal is equal
        fits = self.width is None or is_count(self.width, INPUT_SIDE)
        expected = f"an integer from 1 to {INPUT_SIDE:,}, in pixels, or none"
        refuse(fits, where, "width", self.width, expected)
        for name in ("size", "side"):
            value = getattr(self, name)
            expected = f"an integer from 1 to {INPUT_SIDE:,}, in pixels"
            refuse(is_count(value, INPUT_SIDE), where, name, value, expected)
        fits = self.side == self.size or self.resize == "shorter"
        refuse(fits, where, "side", self.side, f'{self.size}, as size, unless resize is "shorter"')
        fits = is_number(self.central, 1 / INPUT_SIDE, 1)
        refuse(fits, where, "central", self.central, "a fraction above 0 and up to 1")
        fits = is_number(self.scale, -NUMBER, NUMBER) and abs(self.scale) >= 1 / NUMBER
        refuse(fits, where, "scale", self.scale, "a finite number other than 0")
        count, each = len(self.order), "letter of the order"
        if self.order == "any":
            mean: object = self.mean  # as a file has it
            known = len(mean) if isinstance(mean, tuple) else 1
            count, each = min(max(known, 1), IMAGE_CHANNELS), "channel"
        for name, least, what in (("mean", -NUMBER, ""), ("std", 1 / NUMBER, " above 0")):
            values = getattr(self, name)
            fits = isinstance(values, tuple) and len(values) == count
            fits = fits and all(is_number(one, least, NUMBER) for one in values)
            expected = f"a tuple of {count} finite numbers{what}, one for each {each}"
            refuse(fits, where, name, values, expected)

        ends = self.levels if isinstance(self.levels, tuple) and len(self.levels) == 2 else None
        fits = ends is not None and all(is_number(one, -NUMBER, NUMBER) for one in ends)
        fits = self.levels is None or (fits and ends is not None and ends[0] < ends[1])
        refuse(fits, where, "levels", self.levels, "two rising finite numbers, or none")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the network's input in pixels."""
        return self.size, self.width or self.size

    @property
    def channels(self) -> int:
        """The number of channels of the resulting tensor."""
        return len(self.mean)


_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)

# tensorflow/models, research/slim: vgg_preprocessing.py, shorter side resized to 256.
SLIM_VGG = Preprocessing(
    size=224,
    resize="shorter",
    side=256,
    central=1.0,
    interpolation="tf-bilinear",
    order="RGB",
    scale=1.0,
    mean=(123.68, 116.78, 103.94),
    std=(1.0, 1.0, 1.0),
)
# inception_preprocessing.py, with 299 pixels as for the published version 2 weights.
SLIM_INCEPTION = Preprocessing(
    size=299,
    resize="central",
    side=299,
    central=0.875,
    interpolation="tf-bilinear",
    order="RGB",
    scale=1 / 255,
    mean=_HALF,
    std=_HALF,
)
# keras/src/applications/imagenet_utils.py. Keras' preprocessing does not resize, so this follows
# its documentation: load_img(path, target_size=(224, 224)), which defaults to nearest.
KERAS_CAFFE = Preprocessing(
    size=224,
    resize="square",
    side=224,
    central=1.0,
    interpolation="nearest",
    order="BGR",
    scale=1.0,
    mean=(103.939, 116.779, 123.68),
    std=(1.0, 1.0, 1.0),
)
KERAS_TF = replace(
    KERAS_CAFFE, order="RGB", scale=1 / 127.5, mean=(1.0, 1.0, 1.0), std=(1.0, 1.0, 1.0)
)
KERAS_TORCH = replace(
    KERAS_CAFFE, order="RGB", scale=1 / 255, mean=_IMAGENET_MEAN, std=_IMAGENET_STD
)
# torchvision/transforms/_presets.py, ImageClassification(crop_size=224).
TORCHVISION = Preprocessing(
    size=224,
    resize="shorter",
    side=256,
    central=1.0,
    interpolation="bilinear",
    order="RGB",
    scale=1 / 255,
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
)
# KaimingHe/deep-residual-networks: the centre crop of 224 pixels of a shorter side of 256. The
# original subtracts a mean image, whose colour is near this one.
CAFFE = replace(TORCHVISION, order="BGR", scale=1.0, mean=KERAS_CAFFE.mean, std=KERAS_CAFFE.std)
# timm's default weights for these networks: crop_pct 0.95, shorter side floor(224 / 0.95).
TIMM = replace(TORCHVISION, side=235, interpolation="bicubic")
TIMM_V2 = replace(TIMM, mean=_HALF, std=_HALF)
# akamaster/pytorch_resnet_cifar10, trainer.py: ImageNet's mean and std. CIFAR images are not
# resized; other images are resized to 32 pixels.
CIFAR = replace(TORCHVISION, size=32, side=32)
