from __future__ import annotations

import json
from typing import Any

import pytest

from forebear.weights.keras_layers import NoNetworkError, chain_to, layers_of


def model(*layers: tuple[str, list[str]], **config: Any) -> str:
    listed = [
        {
            "class_name": "Conv2D",
            "config": {"name": name} | config,
            "inbound_nodes": [[[one, 0, 0, {}] for one in inputs]],
        }
        for name, inputs in layers
    ]
    return json.dumps({"class_name": "Functional", "config": {"layers": listed}})


def test_a_chain_leads_back_to_a_layer_or_to_the_start() -> None:
    layers = layers_of(model(("a", []), ("b", ["a"]), ("c", ["b"])))
    seen: set[str] = set()
    assert [one.name for one in chain_to("c", layers, seen, "a")] == ["b", "c"]
    assert seen == {"b", "c"}
    assert [one.name for one in chain_to("c", layers, seen, None)] == ["a", "b", "c"]


def test_a_value_of_both_axes_is_one_value() -> None:
    layer = layers_of(model(("a", []), strides=[2, 2], pool_size=[2, 3]))["a"]
    assert (layer.one("strides"), layer.one("padding", "same")) == (2, "same")
    with pytest.raises(NoNetworkError, match=r"a has pool_size=\[2, 3\]"):
        layer.one("pool_size")


def test_a_loop_and_another_start_are_refused() -> None:
    layers = layers_of(model(("a", []), ("b", ["c"]), ("c", ["b"])))
    with pytest.raises(NoNetworkError, match="leads to itself"):
        chain_to("c", layers, set(), "a")
    with pytest.raises(NoNetworkError, match="does not start from c"):
        chain_to("a", layers, set(), "c")


@pytest.mark.parametrize("config", [None, "", "[]", '{"class_name": "Sequential"}'])
def test_what_is_no_functional_model_is_refused(config: str | None) -> None:
    with pytest.raises(NoNetworkError, match="the file has no functional model"):
        layers_of(config)
