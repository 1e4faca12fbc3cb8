"""Weights move to another network of the same function."""

from __future__ import annotations

import torch

import forebear
from forebear.weights.transfer import transfer
from tests.network.making import lively, make

IMAGE = torch.randn(1, 3, 65, 65, generator=torch.Generator().manual_seed(3))


def test_biases_before_norms_are_folded_into_the_mean_where_the_target_has_none() -> None:
    keras = make("keras/ResNet50", num_classes=7)
    from dataclasses import replace

    plain = replace(keras.dialect, name="plain", bias_before_norm=False)
    other = lively(forebear.create(keras.table, dialect=plain, num_classes=7), seed=9)
    transfer(keras, other)
    with torch.inference_mode():
        expected = keras(IMAGE)
        assert (other(IMAGE) - expected).abs().max() < 1e-5 * expected.abs().max()
