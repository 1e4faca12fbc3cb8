"""What a Hub folder says about its weights: class names and preprocessing.

transformers has preprocessor_config.json and id2label, timm has pretrained_cfg and label_names, and
KerasHub has image_converter.json. A preprocessing that `Preprocessing` cannot express is said in a
note.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from forebear.tables.preprocessing import Interpolation, Preprocessing
from forebear.text import truncated
from forebear.untrusted import read_json
from forebear.weights.readers.errors import reading
from forebear.weights.readers.hub import HubConfig

PROCESSOR = "preprocessor_config.json"
CONVERTER = "image_converter.json"
_DIGITS = 12  # of a mean and a standard deviation, which a converter stores as quotients
_ANTIALIAS = (
    "images are resized with antialiasing, and this preset resizes them without: the values of "
    "their pixels differ, most in fine textures"
)
_RESAMPLING: dict[int, Interpolation] = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # Pillow's
_CROPPED_BELOW = 384  # pixels: from here on, ConvNextImageProcessor does not crop
_GREY, _COLOUR = 1, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a file says about its network, as far as it says anything."""

    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()

    def __or__(self, other: Facts) -> Facts:
        """Returns both: the other's classes and preprocessing come first."""
        return Facts(
            classes=other.classes or self.classes,
            preprocessing=other.preprocessing or self.preprocessing,
            notes=self.notes + other.notes,
        )


class _InexpressibleError(Exception):
    """A preprocessing has a step that `Preprocessing` has no words for."""


def transformers_facts(folder: Path, config: HubConfig) -> Facts:
    """Returns the class names in config.json and the preprocessing from the file next to it.

    Raises:
        WeightsError: preprocessor_config.json is not JSON.
    """
    names = _labels(config.data.get("id2label"))
    path = folder / PROCESSOR
    if not path.is_file():
        return Facts(
            classes=names,
            notes=(f"there is no {PROCESSOR}: images are preprocessed as for timm's networks",),
        )
    with reading(path, "a JSON object"):
        data = read_json(path)
        if not isinstance(data, dict):
            raise ValueError("it holds no object")
    return _facts(names, lambda: _processor(data), PROCESSOR)


def timm_facts(config: HubConfig) -> Facts:
    """Returns the class names and the preprocessing of timm's config."""
    given = config.pretrained_cfg or config.data.get("pretrained_cfg") or {}
    names = config.data.get("label_names", given.get("label_names"))
    listed = isinstance(names, list) and all(isinstance(one, str) for one in names)
    classes = tuple(names) if listed else ()
    if not given:
        return Facts(classes=classes)
    return _facts(classes, lambda: _timm(given), "pretrained_cfg")


def _facts(classes: tuple[str, ...], read: Any, source: str) -> Facts:
    try:
        return Facts(classes=classes, preprocessing=read())
    except (_InexpressibleError, ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        said = truncated(error.args[0] if error.args else type(error).__name__)
        note = (
            f"the preprocessing in {source} cannot be expressed ({said}): the network's own is used"
        )
        return Facts(classes=classes, notes=(note,))


def _labels(labels: object) -> tuple[str, ...]:
    """Returns the names in the order of their numbers; none if a number is missing."""
    if not isinstance(labels, Mapping):
        return ()
    try:
        by_number = {int(number): str(name) for number, name in labels.items()}
    except ValueError:
        return ()
    if sorted(by_number) != list(range(len(by_number))):
        return ()
    names = tuple(by_number[number] for number in range(len(by_number)))
    return () if names == tuple(f"LABEL_{number}" for number in range(len(names))) else names


# ---- transformers


def _processor(data: Mapping[str, Any]) -> Preprocessing:
    kind = str(data.get("image_processor_type", data.get("feature_extractor_type", "")))
    kind = kind.removesuffix("Fast").removesuffix("Pil")
    if data.get("do_rescale") is False or data.get("do_normalize") is False:
        raise _InexpressibleError("it does not rescale or normalise")
    mean, std = tuple(data["image_mean"]), tuple(data["image_std"])
    size, resize, side = _sizes(data, kind)
    return Preprocessing(
        size=size,
        resize=resize,
        side=side,
        central=1.0,
        interpolation=_interpolation(data.get("resample", 3)),
        order=_order(mean),
        scale=data.get("rescale_factor", 1 / 255),
        mean=mean,
        std=std,
    )


def _sizes(
    data: Mapping[str, Any], kind: str
) -> tuple[int, Literal["shorter", "square", "none"], int]:
    """Returns size, resize and side, as in `Preprocessing`."""
    given = data.get("size")
    edge = given.get("shortest_edge") if isinstance(given, Mapping) else given
    crop = data.get("crop_size")
    cropped = crop.get("height") if isinstance(crop, Mapping) else crop
    if isinstance(crop, Mapping) and crop.get("height") != crop.get("width"):
        raise _InexpressibleError(f"crop_size={dict(crop)}")
    crops = data.get("do_center_crop") is True and cropped is not None
    if data.get("do_resize") is False:
        raise _InexpressibleError("it does not resize")
    if kind.startswith("ConvNext"):
        if not isinstance(edge, int):
            raise _InexpressibleError(f"size={given}")
        if edge >= _CROPPED_BELOW:
            return edge, "square", edge
        return edge, "shorter", int(edge / data.get("crop_pct", 224 / 256))
    if isinstance(given, Mapping) and "height" in given:
        if given.get("height") != given.get("width"):
            raise _InexpressibleError(f"size={dict(given)}")
        side = given["height"]
        if crops and cropped != side:
            raise _InexpressibleError("it crops a square after a warp")
        return side, "square", side
    if not isinstance(edge, int):
        raise _InexpressibleError(f"size={given}")
    if crops and isinstance(cropped, int):
        return cropped, "shorter", edge
    if isinstance(given, int):  # the form of older versions: a warp to a square
        return edge, "square", edge
    raise _InexpressibleError("it resizes the shorter side without a crop")


def _interpolation(resample: object) -> Interpolation:
    if not isinstance(resample, int) or resample not in _RESAMPLING:
        raise _InexpressibleError(f"resample={resample}")
    return _RESAMPLING[resample]


def _order(mean: tuple[Any, ...]) -> Literal["RGB", "L"]:
    if len(mean) not in (_GREY, _COLOUR):
        raise _InexpressibleError(f"{len(mean)} channels")
    return "L" if len(mean) == _GREY else "RGB"


# ---- KerasHub: layers/preprocessing/image_converter.py


def kerashub_facts(folder: Path) -> Facts:
    """Returns the preprocessing of a KerasHub preset. A preset stores no class names.

    Raises:
        WeightsError: image_converter.json is not JSON.
    """
    path = folder / CONVERTER
    if not path.is_file():
        note = f"there is no {CONVERTER}: images are preprocessed as for KerasHub's networks"
        return Facts(notes=(note,))
    with reading(path, "a JSON object"):
        data = read_json(path)
        if not isinstance(data, dict):
            raise ValueError("it holds no object")
    found = _facts((), lambda: _converter(data["config"]), CONVERTER)
    settings = data.get("config")
    smooth = isinstance(settings, Mapping) and settings.get("antialias") is True
    if found.preprocessing is None or smooth:
        return found
    return found | Facts(notes=(_ANTIALIAS,))


def _converter(given: Mapping[str, Any]) -> Preprocessing:
    """Returns the preprocessing of an image converter: x * scale + offset."""
    height, width = given["image_size"]
    if height != width:
        raise _InexpressibleError(f"image_size={list(given['image_size'])}")
    if given.get("pad_to_aspect_ratio"):
        raise _InexpressibleError("pad_to_aspect_ratio=true")
    scale, offset = _colours(given.get("scale"), 1.0), _colours(given.get("offset"), 0.0)
    std = tuple(1 / 255 / one for one in scale)
    asked = given.get("interpolation", "bilinear")
    if asked not in _RESAMPLING.values():
        raise _InexpressibleError(f"interpolation={asked!r}")
    return Preprocessing(
        size=height,
        resize="shorter" if given.get("crop_to_aspect_ratio", True) else "square",
        side=height,
        central=1.0,
        interpolation=asked,
        order="RGB",
        scale=1 / 255,
        mean=tuple(round(-low * one, _DIGITS) for low, one in zip(offset, std, strict=True)),
        std=tuple(round(one, _DIGITS) for one in std),
    )


def _colours(given: Any, default: float) -> tuple[float, ...]:
    """Returns one value for each colour of a value for all, or of a list."""
    if isinstance(given, list):
        return tuple(given)
    return (default if given is None else given,) * _COLOUR


# ---- timm: data/config.py and data/transforms_factory.py, transforms_imagenet_eval


def _timm(given: Mapping[str, Any]) -> Preprocessing:
    _, height, width = given["input_size"]
    if height != width:
        raise _InexpressibleError(f"input_size={list(given['input_size'])}")
    mode, share = given.get("crop_mode") or "center", given.get("crop_pct") or 0.875
    side = math.floor(height / share)
    mean, std = ((*given[name],) for name in ("mean", "std"))
    if mode == "squash" and side == height:
        resize: Literal["shorter", "square"] = "square"
    elif mode == "center":
        resize = "shorter"
    else:
        raise _InexpressibleError(f"crop_mode={mode!r} with crop_pct={share}")
    asked = given.get("interpolation") or "bilinear"
    known = [one for one in _RESAMPLING.values() if one == asked]
    if not known:
        raise _InexpressibleError(f"interpolation={asked!r}")
    return Preprocessing(
        size=height,
        resize=resize,
        side=side if resize == "shorter" else height,
        central=1.0,
        interpolation=known[0],
        order=_order(mean),
        scale=1 / 255,
        mean=mean,
        std=std,
    )
