"""Published preprocessing: pixels of 0 to 255 become what each library gives its networks."""

from __future__ import annotations

from dataclasses import MISSING, FrozenInstanceError, fields

import pytest

from forebear.tables import preprocessing as published
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
    )
    with pytest.raises(FrozenInstanceError):
        published.TIMM.size = 32  # type: ignore[misc]
