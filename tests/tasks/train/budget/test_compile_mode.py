from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import forebear
from forebear import Block, Conv, Table
from forebear.errors import RunError
from forebear.tasks.machine.distributed import ALONE
from forebear.tasks.train.budget import compile_mode
from forebear.tasks.train.budget.compile_mode import compiling, mode_of
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.step import Mode, Stepper

TABLE = Table("tiny", (Conv("conv1", 8, 3),), "basic", (Block("block1", 2, 8, 8, 2),))
GPU = torch.device("cuda")  # it need not be there
CPU = torch.device("cpu")
Seconds = dict[Mode, float]


def net() -> forebear.Network:
    draws = torch.Generator().manual_seed(0)
    return forebear.create(TABLE, dialect="torchvision", num_classes=3, generator=draws)


def find(wish: str = "auto", device: torch.device = GPU, **more: Any) -> Mode:
    given = {"alone": True, "steps": 10_000} | more
    recipe = Recipe(
        lr=0.1, schedule="constant", batch=8, size=16, accumulate=given.pop("accumulate", 1)
    )
    steps = given.pop("steps")
    return mode_of(wish, recipe, net(), device, length=lambda seconds: steps * seconds, **given)


def test_the_source_of_a_table_does_not_change_the_key_of_a_verdict() -> None:
    recipe = Recipe(lr=0.1, schedule="constant", batch=8, size=16)
    named = forebear.create(replace(TABLE, source="a paper"), dialect="torchvision", num_classes=3)
    keys = {compile_mode._key(recipe, each, CPU, ("off", "on")) for each in (net(), named)}
    assert len(keys) == 1


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path))
    monkeypatch.setattr(compile_mode, "device_name", str)


def measures(seconds: Seconds, monkeypatch: pytest.MonkeyPatch) -> list[Mode]:
    """Has steps take so long, one by one; the list tells which were timed."""
    timed: list[Mode] = []

    def pace(*_: object, mode: Mode = "off") -> float:
        timed.append(mode)
        if mode not in seconds:
            raise RuntimeError("no compiler here")
        return seconds[mode]

    monkeypatch.setattr(compile_mode, "seconds_of_step", pace)
    return timed


@pytest.mark.parametrize(
    ("seconds", "mode"),
    [
        ({"off": 1.0, "on": 0.7, "graphs": 0.8}, "on"),
        ({"off": 1.0, "on": 0.9, "graphs": 0.5}, "graphs"),
        ({"off": 1.0, "on": 0.98, "graphs": 0.99}, "off"),
        ({"off": 1.0, "graphs": 0.5}, "graphs"),  # one of them fails
        ({"off": 1.0}, "off"),
    ],
)
def test_the_fastest_is_taken_and_remembered(
    seconds: Seconds, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = measures(seconds, monkeypatch)
    assert find() == mode
    assert timed == ["off", "on", "graphs"]
    assert find() == mode
    assert len(timed) == 3
    assert find(accumulate=2) in ("off", "on")  # another step, timed anew, and without graphs
    assert timed[3:] == ["off", "on"]


def test_a_short_run_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = measures({"off": 0.1, "on": 0.01, "graphs": 0.01}, monkeypatch)
    assert find(steps=5_000) == "off"
    assert timed == ["off"]
    assert find(steps=7_000) != "off"


def test_several_processes_take_no_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = measures({"off": 1.0, "on": 0.7, "graphs": 0.1}, monkeypatch)
    assert find(alone=False) == "on"
    assert timed == ["off", "on"]
    assert find() == "graphs"  # what one process found is not what several take
    assert find(alone=False) == "on"


def test_a_damaged_memory_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = measures({"off": 1.0, "on": 0.7, "graphs": 0.8}, monkeypatch)
    for text in ("{", "[]", ""):
        (tmp_path / "compile.json").write_text(text)
        assert find() == "on"
    assert len(timed) == 9
    assert list(json.loads((tmp_path / "compile.json").read_text()).values()) == ["on"]


def test_on_a_processor_only_what_is_asked_for_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = measures({"off": 1.0, "on": 0.1}, monkeypatch)
    assert find(device=CPU) == "off"
    assert find("on", CPU) == "on"
    assert not timed
    with pytest.raises(ValueError, match="compile='graphs': CUDA graphs need a GPU"):
        find("graphs", CPU)
    with pytest.raises(ValueError, match="compile='fast': expected one of auto, off, on, graphs"):
        find("fast", CPU)


@pytest.mark.long
def test_a_compiled_step_moves_the_weights_as_a_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.compile
    calls = []

    def compile_without_code(model: torch.nn.Module, **given: Any) -> Any:
        calls.append(given)
        return real(model, backend="aot_eager", dynamic=given["dynamic"])

    monkeypatch.setattr(torch, "compile", compile_without_code)

    def moved(mode: Mode) -> dict[str, Tensor]:
        network = net().train()
        recipe = Recipe(lr=0.1, schedule="constant", precision="fp32")
        stepper = Stepper(network, network, recipe, CPU, ALONE, mode=mode)
        images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        labels = torch.arange(8) % 3
        for _ in range(3):
            stepper(images, labels, labels, total=8, share=1.0)
        return network.state_dict()

    plain, other = moved("off"), moved("on")
    assert [one["mode"] for one in calls] == ["default"]
    assert plain.keys() == other.keys()
    for name, value in plain.items():
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5)


def test_a_network_that_cannot_be_compiled_ends_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torch._dynamo.exc import TorchDynamoException

    with (
        pytest.raises(RunError, match=r"torch.compile failed \(no g\+\+\).*Pass --compile off"),
        compiling("on"),
    ):
        raise TorchDynamoException("no g++\nand much more")
    with pytest.raises(RuntimeError, match="other"), compiling("off"):
        raise RuntimeError("other")
