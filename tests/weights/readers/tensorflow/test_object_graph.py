"""Variables of TF2 objects have their full names, whatever keys their objects give them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

import forebear
from forebear import WeightsError
from forebear.weights.readers.base import Array
from forebear.weights.readers.tensorflow.open import open_tensorflow
from forebear.weights.writers.tensorflow.protobuf import message, number
from tests.weights.readers.object_making import (
    END,
    Tree,
    Variable,
    graph_of,
    layers_of,
    node,
    objects_of,
    tree_of,
    unpacked,
)

SIZE = [np.full(2, n, np.float32) for n in range(9)]


def names(path: Path) -> dict[str, float]:
    """{name: first value}."""
    with open_tensorflow(path) as arrays:
        return {name: float(arrays[name][0]) for name in arrays}


def model(*values: int, layer: str = "a") -> dict[str, Tree]:
    kernel, bias = (SIZE[value] for value in values)
    return {
        "layer-0": {"kernel": Variable(f"{layer}/kernel", kernel)},
        "layer-1": {"bias": Variable("b/bias:0", bias)},
    }


def test_variables_have_their_full_names(tmp_path: Path) -> None:
    path = tree_of(tmp_path / "x", {"model": model(1, 2), "save_counter": Variable("n", SIZE[3])})
    assert names(path) == {"a/kernel": 1, "b/bias": 2, "n": 3}
    with open_tensorflow(path) as arrays:
        assert arrays.format == "TensorFlow 2 checkpoint of objects"


def test_texts_of_objects_are_left_out(tmp_path: Path) -> None:
    path = tree_of(tmp_path / "x", model(1, 2), texts={"a/.ATTRIBUTES/OBJECT_CONFIG_JSON": b"{}"})
    assert names(path) == {"a/kernel": 1, "b/bias": 2}


def test_models_of_the_same_names_are_told_apart_by_their_attributes(tmp_path: Path) -> None:
    tree = {"net": {"student": model(1, 2), "teacher": model(3, 4, layer="c")}}
    assert names(tree_of(tmp_path / "x", tree)) == {
        "net/student/a/kernel": 1,
        "net/student/b/bias": 2,
        "net/teacher/b/bias": 4,
        "net/teacher/c/kernel": 3,
    }


def test_a_model_with_two_attributes_is_one_model(tmp_path: Path) -> None:
    one = model(1, 2)
    assert names(tree_of(tmp_path / "x", {"a": one, "b": one})) == {"a/kernel": 1, "b/bias": 2}


def test_an_optimizer_does_not_name_the_weights_that_it_refers_to(tmp_path: Path) -> None:
    first, second = model(1, 2), model(3, 4)
    weights = {"0": first["layer-0"]["kernel"], "1": second["layer-0"]["kernel"]}
    optimizer = {"_iterations": Variable("iteration", SIZE[5]), "_trainable_variables": weights}
    tree = {"optimizer": optimizer, "net": {"one": first, "two": second}}
    path = tree_of(tmp_path / "x", tree)
    found = names(path)
    assert found["net/one/a/kernel"] == 1
    assert found["net/two/a/kernel"] == 3
    assert found["iteration"] == 5


def test_slots_of_older_optimizers_keep_their_names(tmp_path: Path) -> None:
    optimizer = {"iter": Variable("SGD/iter", SIZE[5])}
    slots = {"layer-0/kernel": Variable("SGD/a/kernel/momentum", SIZE[6])}
    path = tree_of(tmp_path / "x", {**model(1, 2), "optimizer": optimizer}, slots)
    expected = {"SGD/a/kernel/momentum": 6, "SGD/iter": 5, "a/kernel": 1, "b/bias": 2}
    assert names(path) == expected


def test_copies_in_an_export_of_keras_3_keep_their_keys(tmp_path: Path) -> None:
    tree = {
        "variables": {"0": Variable("a/kernel", SIZE[1])},
        "_all_variables": {"0": Variable("a/kernel", SIZE[1])},
    }
    assert [*names(tree_of(tmp_path / "x", tree))] == [f"_all_variables/0{END}", "a/kernel"]


def test_variables_without_names_of_their_own_keep_their_keys(tmp_path: Path) -> None:
    tree = {"w": {"0": Variable("Variable"), "1": Variable("Variable"), "2": Variable("")}}
    assert [*names(tree_of(tmp_path / "x", tree))] == [f"w/{n}{END}" for n in range(3)]


def test_a_full_name_that_is_the_key_of_another_is_not_taken(tmp_path: Path) -> None:
    tree = {"a": Variable(f"b{END}", SIZE[1]), "b": Variable("c", SIZE[2])}
    assert names(tree_of(tmp_path / "x", tree)) == {f"a{END}": 1, "c": 2}


def test_objects_may_refer_to_each_other(tmp_path: Path) -> None:
    graph = node([("self", 0), ("w", 1)]) + node([("up", 0)], variable=("a/w", f"w{END}"))
    assert [*names(objects_of(tmp_path / "x", graph, {f"w{END}": SIZE[1]}))] == ["a/w"]


def _chain(length: int) -> bytes:
    return b"".join(node([("down", number + 1)]) for number in range(length)) + node()


HOSTILE = {
    "a variable that is not there": (node(variable=("a", "b")), "names the variable b, which the"),
    "one key for two variables": (
        node([("x", 1)], ("a", f"w{END}")) + node(variable=("b", f"w{END}")),
        "2 times",
    ),
    "an object beyond the last": (node([("x", 7)]), "refers to an object beyond its 1"),
    "a negative object": (node([("x", (1 << 64) - 1)]), "refers to an object beyond"),
    "objects nested too deeply": (_chain(100), "nested more than 64 levels deep"),
    "a child that is a number": (message(1, number(1, 7)), "holds a number instead of bytes"),
    "an object that is a number": (number(1, 7), "holds a number instead of bytes"),
    "a name that is no text": (message(1, message(1, message(2, b"\xff"))), "not UTF-8"),
    "a name with a NUL": (node([("a\0b", 0)]), "contains a NUL"),
    "bytes that are no message": (b"\x0a\xff", "varint"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_graph_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    graph, said = HOSTILE[what]
    path = objects_of(tmp_path / "x", graph, {f"w{END}": SIZE[1]})
    with pytest.raises(WeightsError, match=said) as caught:
        open_tensorflow(path)
    assert "_CHECKPOINTABLE_OBJECT_GRAPH" in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_empty_graph_names_nothing(tmp_path: Path) -> None:
    assert [*names(objects_of(tmp_path / "x", b"", {"w": SIZE[1]}))] == ["w"]


def test_too_many_objects_are_refused_before_they_are_built(tmp_path: Path) -> None:
    path = objects_of(tmp_path / "x", node() * 30 + node([("a", 0)] * 80), {})
    with (
        patch("forebear.weights.readers.tensorflow.object_graph.OBJECTS", 100),
        pytest.raises(WeightsError, match="more than 100 objects and references"),
    ):
        open_tensorflow(path)


def test_a_graph_that_claims_to_be_large_takes_no_memory(tmp_path: Path) -> None:
    path = objects_of(tmp_path / "x", node(), {})
    with (
        patch("forebear.weights.readers.tensorflow.checkpoint_v2.OBJECT_GRAPH_BYTES", 3),
        pytest.raises(WeightsError, match="at most 3 bytes are read"),
    ):
        open_tensorflow(path)


def test_long_names_of_attributes_are_not_repeated_for_every_variable(tmp_path: Path) -> None:
    long = "x" * 900
    tree = {long: {long: {str(n): {"w": Variable("w", SIZE[0])} for n in range(2000)}}}
    path = tree_of(tmp_path / "x", tree)
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match="this name has"):
            open_tensorflow(path)
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("which", ["keras2", "keras3"])
def test_a_checkpoint_of_keras_gives_its_logits(which: str, tmp_path: Path) -> None:
    unpacked(which, tmp_path)
    network = forebear.load(tmp_path / "objects")
    images = np.random.default_rng(5).normal(size=(2, 32, 32, 3)).astype(np.float32)
    with torch.inference_mode():
        found = network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    with np.load(tmp_path / "expected.npz") as expected:
        assert np.abs(found - expected["named"]).max() < 1e-6 * np.abs(expected["named"]).max()
    assert network.dialect.name == "keras-v1"
    optimizer = {"keras2": "left: Adam (76)", "keras3": "left: adam (78)"}[which]
    assert optimizer in network.card.provenance["notes"]


def _weights(folder: Path, more: float = 0) -> dict[str, Array]:
    """The weights of the golden, without its optimizer."""
    with open_tensorflow(unpacked("keras3", folder) / "objects") as arrays:
        return {n: arrays[n] + np.float32(more) for n in arrays if n[:4] in ("conv", "pred")}


def test_several_models_are_a_choice(tmp_path: Path) -> None:
    first, second = _weights(tmp_path), _weights(tmp_path, 1)
    path = tree_of(tmp_path / "x", {"one": layers_of(first), "two": layers_of(second)})
    with pytest.raises(WeightsError, match=r"2 sets of weights fit\. Expected one of one, two\."):
        forebear.load(path)
    network = forebear.load(path, which="two")
    bias = network.state_dict()["root.conv1.conv.bias"].numpy()
    assert np.array_equal(bias, second["conv1_conv/bias"])
    assert "the file also has other weights: --which one" in network.card.provenance["notes"]


def test_an_unknown_layer_is_named(tmp_path: Path) -> None:
    weights = _weights(tmp_path) | {"conv2_block1_se/kernel": SIZE[0]}
    with pytest.raises(WeightsError, match="conv2_block1_se/kernel is not in it"):
        forebear.load(tree_of(tmp_path / "x", layers_of(weights)))


def test_a_program_without_names_says_what_it_is(tmp_path: Path) -> None:
    tree, arrays = graph_of({"w": {"0": Variable("w"), "1": Variable("w")}})
    with pytest.raises(WeightsError, match=r"checkpoint of objects, and w/0/.*no name of its own"):
        forebear.load(objects_of(tmp_path / "x", tree, arrays))
