"""Published preprocessing: pixels of 0 to 255 become what each library gives its networks."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, FrozenInstanceError, asdict, fields, replace
from typing import Any

import pytest

from forebear.tables import preprocessing as published
from forebear.tables.files import preprocessing_from_dict, preprocessing_to_dict
from forebear.tables.preprocessing import Preprocessing

RULES = {name: rule for name, rule in vars(published).items() if isinstance(rule, Preprocessing)}


def normalised(rule: Preprocessing, pixel: float) -> list[float]:
    return [
        (rule.scale * pixel - mean) / std for mean, std in zip(rule.mean, rule.std, strict=True)
    ]


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_whole(name: str) -> None:
    rule = RULES[name]
    assert rule.channels == len(rule.mean) == len(rule.std) == len(rule.order)
    assert rule.side >= rule.size > 0
    assert rule.side == rule.size or rule.resize == "shorter"
    assert 0 < rule.central <= 1
    assert rule.central == 1 or rule.resize == "central"
    assert min(rule.std) > 0


@pytest.mark.parametrize("name", ["SLIM_INCEPTION", "KERAS_TF", "TIMM_V2"])
def test_values_between_minus_1_and_1(name: str) -> None:
    assert normalised(RULES[name], 0) == pytest.approx([-1] * 3)
    assert normalised(RULES[name], 255) == pytest.approx([1] * 3)


@pytest.mark.parametrize("name", ["KERAS_TORCH", "TORCHVISION", "TIMM", "CIFAR"])
def test_values_of_imagenets_mean_and_deviation(name: str) -> None:
    low, high = ([round(value, 4) for value in normalised(RULES[name], p)] for p in (0, 255))
    assert low == [-2.1179, -2.0357, -1.8044]
    assert high == [2.2489, 2.4286, 2.64]


def test_caffes_channels_are_those_of_vgg_backwards() -> None:
    caffe, vgg = published.KERAS_CAFFE, published.SLIM_VGG
    assert (caffe.order, vgg.order) == ("BGR", "RGB")
    assert tuple(round(mean, 2) for mean in caffe.mean[::-1]) == vgg.mean
    assert normalised(vgg, 0) == pytest.approx([-123.68, -116.78, -103.94])


def test_sizes_are_the_published_ones() -> None:
    sizes = {name: (rule.side, rule.size) for name, rule in RULES.items()}
    assert sizes["TORCHVISION"] == sizes["SLIM_VGG"] == (256, 224)
    assert sizes["SLIM_INCEPTION"] == (299, 299)
    assert sizes["TIMM"] == (int(224 / 0.95), 224)
    assert sizes["CIFAR"] == (32, 32)


def test_a_rule_has_no_defaults_and_cannot_be_changed() -> None:
    assert all(
        field.default is MISSING and field.default_factory is MISSING
        for field in fields(Preprocessing)
        if field.name not in ("levels", "width")  # no published network has them
    )
    with pytest.raises(FrozenInstanceError):
        published.TIMM.size = 32  # type: ignore[misc]


IMPOSSIBLE: list[tuple[str, Any, str]] = [
    ("resize", "xhorter", "Expected one of shorter, central, square, pad, none"),
    ("interpolation", "lanczos", "Expected one of nearest, bilinear, bicubic, tf-bilinear"),
    ("order", "RBG", "Expected one of RGB, BGR, L"),
    ("order", ["RGB"], "Expected one of RGB, BGR, L"),
    ("size", 0, "Expected an integer from 1 to 8,192, in pixels"),
    ("size", 1_000_000, "Expected an integer from 1 to 8,192"),
    ("size", True, "Expected an integer"),
    ("size", 224.0, "Expected an integer"),
    ("width", 0, "Expected an integer from 1 to 8,192, in pixels, or none"),
    ("width", 224.5, "Expected an integer from 1"),
    ("side", -1, "Expected an integer from 1"),
    ("side", 10**400, "Expected an integer from 1"),
    ("central", 0, "Expected a fraction above 0 and up to 1"),
    ("central", 1.5, "Expected a fraction above 0 and up to 1"),
    ("central", math.nan, "Expected a fraction above 0 and up to 1"),
    ("scale", 0, "Expected a finite number other than 0"),
    ("scale", math.nan, "Expected a finite number other than 0"),
    ("scale", math.inf, "Expected a finite number other than 0"),
    ("scale", 1e-300, "Expected a finite number other than 0"),
    ("scale", "1", "Expected a finite number other than 0"),
    ("mean", [0.5, 0.5], "Expected a tuple of 3 finite numbers, one for each letter of the order"),
    ("mean", [0.5, 0.5, math.nan], "Expected a tuple of 3 finite numbers"),
    ("mean", 0.5, "Expected a tuple of 3 finite numbers"),
    ("mean", {"a": 1}, "Expected a tuple of 3 finite numbers"),
    ("std", [1, 0, 1], "Expected a tuple of 3 finite numbers above 0"),
    ("std", [1, -1, 1], "Expected a tuple of 3 finite numbers above 0"),
    ("std", [1, math.inf, 1], "Expected a tuple of 3 finite numbers above 0"),
    ("std", [1, 10**400, 1], "Expected a tuple of 3 finite numbers above 0"),
    ("std", [1, [1], 1], "Expected a tuple of 3 finite numbers above 0"),
    ("std", "abc", "Expected a tuple of 3 finite numbers above 0"),
]


@pytest.mark.parametrize(("field", "value", "expected"), IMPOSSIBLE)
def test_a_value_that_is_not_possible_is_refused_by_its_field(
    field: str, value: Any, expected: str
) -> None:
    data = {**json.loads(json.dumps(asdict(published.TORCHVISION))), field: value}
    with pytest.raises(ValueError, match=f"^preprocessing: {field}=.*{expected}.*Correct this"):
        preprocessing_from_dict(data)


def test_only_the_shorter_side_has_a_size_of_its_own() -> None:
    with pytest.raises(ValueError, match=r"^preprocessing: side=256. Expected 224, as size, unle"):
        replace(published.KERAS_TF, side=256)
    with pytest.raises(ValueError, match=r"^preprocessing: mean=.*a tuple of 1 finite numbers"):
        replace(published.CIFAR, order="L")


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_the_same_after_a_round_trip_as_json(name: str) -> None:
    assert preprocessing_from_dict(json.loads(json.dumps(asdict(RULES[name])))) == RULES[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"siez": 3}, "preprocessing: the key 'siez' is unknown.*Did you mean size"),
        ({"mean": None}, "preprocessing: mean=None"),
    ],
)
def test_keys_that_are_not_those_of_a_rule_are_refused(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        preprocessing_from_dict({**asdict(published.CIFAR), **change})
    with pytest.raises(ValueError, match="preprocessing: the key 'std' is missing"):
        preprocessing_from_dict({k: v for k, v in asdict(published.CIFAR).items() if k != "std"})
    with pytest.raises(ValueError, match="preprocessing=3: expected a mapping"):
        preprocessing_from_dict(3)


def test_a_rectangle_has_a_width_and_a_square_is_written_as_before() -> None:
    square = published.TORCHVISION
    assert square.shape == (224, 224)
    assert "width" not in preprocessing_to_dict(square)
    assert replace(square, width=224) == square
    wide = replace(square, width=448)
    assert wide.shape == (224, 448)
    assert preprocessing_from_dict(json.loads(json.dumps(preprocessing_to_dict(wide)))) == wide
