"""Layouts: what is loaded is stored again as it was."""

from __future__ import annotations

import numpy as np
import pytest

import forebear
from forebear.weights.variable_names import pairs
from tests.weights.making import given, small


@pytest.mark.parametrize("dialect", ["slim-v2", "keras-v1", "keras-old", "torchvision", "timm-v2"])
def test_stored_layouts_give_back_what_was_loaded(dialect: str) -> None:
    net = small(dialect)
    arrays = given(net)
    forebear.load_arrays(net, arrays)
    state = net.state_dict()
    for pair in pairs(net.plan):
        stored = pair.layout.store(state[pair.ours].numpy())
        np.testing.assert_array_equal(stored, arrays[pair.theirs])
