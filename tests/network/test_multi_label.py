from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

import forebear
from forebear.network.calibration import Calibration
from forebear.network.multi_label import MultiLabel, multi_label_from_dict

VALUES: dict[str, Any] = {"thresholds": (0.25, 0.5), "images": 100, "fingerprint": "ab12"}


def test_thresholds_are_plain_data_and_back() -> None:
    made = MultiLabel(**VALUES)
    assert made.as_dict() == VALUES
    assert multi_label_from_dict(VALUES | {"thresholds": [0.25, 0.5]}) == made
    assert multi_label_from_dict(None) is None


def test_the_default_is_one_half_for_each_label() -> None:
    made = MultiLabel.of(3)
    assert made.thresholds == (0.5, 0.5, 0.5)
    assert made.logits() == (0.0, 0.0, 0.0)


def test_thresholds_are_logits_too() -> None:
    found = MultiLabel(thresholds=(0.0, 0.25, 1.0)).logits()
    assert found == pytest.approx((-math.inf, -math.log(3), math.inf))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thresholds": ()}, r"thresholds=\(\). Expected a number from 0 to 1 for each label"),
        ({"thresholds": (0.5, 1.5)}, "thresholds="),
        ({"thresholds": (0.5, math.nan)}, "thresholds="),
        ({"thresholds": (True,)}, "thresholds="),
        ({"thresholds": 0.5}, "thresholds=0.5"),
        ({"images": -1}, "images=-1. Expected an integer from 0"),
        ({"images": 1.0}, "images=1.0"),
        ({"fingerprint": "a\nb"}, "fingerprint="),
        ({"surprise": 1}, "multi_label: the key 'surprise' is unknown"),
    ],
)
def test_a_value_that_is_not_possible_is_refused_by_its_name(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        multi_label_from_dict(VALUES | changes)


def test_the_predictions_of_a_multi_label_network_are_sigmoids() -> None:
    net = forebear.create("paper/resnet20", num_classes=2).eval()
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain = net.end_points(images, ["logits", "predictions"])
    assert torch.equal(plain["predictions"], plain["logits"].softmax(1))
    net.card = replace(net.card, multi_label=MultiLabel(**VALUES))
    assert net.multi_label
    found = net.end_points(images, ["logits", "predictions"])
    assert torch.equal(found["predictions"], found["logits"].sigmoid())


def test_a_card_has_one_threshold_for_each_logit_and_no_temperature() -> None:
    card = forebear.create("paper/resnet20", num_classes=2).card
    several = replace(card, multi_label=MultiLabel(**VALUES))
    several.require_logits(2)
    with pytest.raises(ValueError, match="2 thresholds for 3 logits"):
        several.require_logits(3)
    fitted = Calibration(
        temperature=1.0, threshold=0.5, unknown_rate=0.1, images=9, ece_before=0.1, ece_after=0.1
    )
    with pytest.raises(ValueError, match="calibration=.*Expected None if it is multi-label"):
        replace(several, calibration=fitted)
