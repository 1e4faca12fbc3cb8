"""Descriptions of tensors are checked before anything of their size is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebear import WeightsError
from forebear.weights.readers.torch.pickle_values import (
    Global,
    OtherTensor,
    Storage,
    Strided,
    Unbuilt,
    Values,
    plain,
)

FLOAT = Global("torch.FloatStorage")


def values(size: int = 1000) -> Values:
    return Values(Path("a.pth"), size, set(), [])


def tensor(*arguments: object) -> object:
    return values().call(Global("torch._utils._rebuild_tensor_v2"), arguments)


def test_a_storage_and_a_tensor_are_described() -> None:
    found = values().storage(("storage", FLOAT, "7", "cuda:0", 12))
    assert found == Storage("Float", "7", 12)
    view = values().storage(("storage", FLOAT, "7", "cpu", 12, ("8", 3, 4)))
    assert view == Storage("Float", "7", 4, 3)
    assert tensor(view, 1, (3,), (1,), False, {}) == Strided(view, 4, (3,), (1,), "Float")
    assert values().storage(("module", Global("net.Net"), "a.py", "source")) == Unbuilt("net.Net")


@pytest.mark.parametrize(
    "described",
    [
        (),
        ("storage", FLOAT, "7", "cpu", -1),
        ("storage", FLOAT, ["7"], "cpu", 1),
        ("storage", "Float", "7", "cpu", 1),
        ("storage", FLOAT, "7", "cpu", 1, ("8", -1, 1)),
        ("storage", FLOAT, "7", "cpu", True),
        7,
    ],
)
def test_a_storage_without_description_is_refused(described: object) -> None:
    with pytest.raises(ValueError, match="a storage has no description"):
        values().storage(described)


def test_a_tensor_lies_within_its_storage() -> None:
    storage = Storage("Float", "0", 6)
    for shape, strides in (((2, 4), (4, 1)), ((7,), (1,)), ((2,), (6,))):
        with pytest.raises(ValueError, match="is larger than its storage"):
            tensor(storage, 0, shape, strides)
    for odd, steps in (((-1,), (1,)), ((2, 2), (1,)), ((2,), (True,)), ("a", "b")):
        with pytest.raises(ValueError, match="is not a tuple of numbers"):
            tensor(storage, 0, odd, steps)
    with pytest.raises(WeightsError, match="asks for 2000 values"):
        tensor(storage, 0, (2000,), (0,))
    with pytest.raises(WeightsError, match="asks for 1001 values"):
        values().storage(("storage", FLOAT, "0", "cpu", 1001))


def test_other_tensors_are_named_and_other_objects_unbuilt() -> None:
    made = values()
    for function, what in {
        "_rebuild_sparse_tensor": "a sparse layout",
        "_rebuild_qtensor": "quantised values",
        "_rebuild_meta_tensor_no_storage": "no values (meta)",
    }.items():
        assert made.call(Global(f"torch._utils.{function}"), ()) == OtherTensor(what)
    assert made.call(Global("net.Net"), ({},)) == Unbuilt("net.Net")
    assert made.call(Global("copyreg._reconstructor"), (Global("net.Net"),)) == Unbuilt("net.Net")
    with pytest.raises(WeightsError, match=r"os\.system; nothing was executed"):
        made.find("os", "system")


def test_a_parameter_of_the_first_torch_gets_its_tensor_from_its_state() -> None:
    made, storage = values(), Storage("Float", "0", 6)
    parameter = made.call(Global("torch.nn.parameter.Parameter"), ())
    made.build(parameter, (storage, 0, (6,), (1,)))
    assert plain(parameter) == Strided(storage, 0, (6,), (1,), "Float")
