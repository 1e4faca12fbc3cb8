"""Layouts: what is loaded is stored again as it was."""

from __future__ import annotations

import numpy as np
import pytest

import forebear
from forebear.weights.layouts import (
    DEPTHWISE,
    FLAT,
    HWIO,
    HWIO_LINEAR,
    IO,
    OIHW_LINEAR,
    SAME,
    Layout,
)
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


LAYOUTS: dict[str, tuple[Layout, tuple[int, ...], tuple[int, ...]]] = {
    "a kernel": (HWIO, (8, 4, 3, 5), (3, 5, 4, 8)),
    "a matrix": (IO, (8, 4), (4, 8)),
    "logits as a kernel of TF-Slim": (HWIO_LINEAR, (8, 4), (1, 1, 4, 8)),
    "logits as a kernel of timm": (OIHW_LINEAR, (8, 4), (8, 4, 1, 1)),
    "a flat kernel": (FLAT, (8, 4, 3, 5), (8, 60)),
    "groups as a depthwise kernel": (DEPTHWISE, (8, 4, 3, 5), (3, 5, 8, 4)),
    "any array": (SAME, (8,), (8,)),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_goes_there_and_back(name: str) -> None:
    layout, ours, theirs = LAYOUTS[name]
    array = np.arange(np.prod(ours), dtype=np.float32).reshape(ours)
    stored = layout.store(array)
    assert stored.shape == layout.shape(ours) == theirs
    np.testing.assert_array_equal(layout.load(stored, ours), array)


def test_axes_go_where_their_letters_say() -> None:
    kernel = np.zeros((8, 4, 3, 5))
    kernel[7, 2, 1, 4] = 1
    assert HWIO.store(kernel)[1, 4, 2, 7] == 1
    assert FLAT.store(kernel)[7, (2 * 3 + 1) * 5 + 4] == 1
    assert DEPTHWISE.store(kernel)[1, 4, 1 * 4 + 2, 3] == 1  # output 7 is the fourth of group 1
