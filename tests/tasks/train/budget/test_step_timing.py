from __future__ import annotations

from typing import Any

import pytest
import torch

import forebear
from forebear.tasks.train.budget.step_timing import TRIALS, seconds_of_step
from forebear.tasks.train.recipe import Recipe

CPU = torch.device("cpu")


class Ran(Exception):  # noqa: N818 it is no error
    pass


def watched_root(calls: list[Any], *, ends: bool = False) -> forebear.Network:
    """A network whose steps, and those of its copies, are counted."""
    network = forebear.create("paper/resnet20", num_classes=3)

    def note(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if ends:
            raise Ran
        calls.append(tuple(given[0].shape))

    network.get_submodule("root").register_forward_pre_hook(note)
    return network


def recipe(**more: Any) -> Recipe:
    given: dict[str, Any] = {"lr": 0.1, "schedule": "constant", "batch": 8, "size": 16}
    return Recipe(**given | more)


def test_a_step_is_timed_on_images_of_the_recipe_and_moves_nothing() -> None:
    calls: list[Any] = []
    network = watched_root(calls)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert seconds_of_step(recipe(), network, CPU) > 0
    assert calls == [(8, 3, 16, 16)] * TRIALS
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_where_the_head_learns_alone_only_its_step_is_timed() -> None:
    network = watched_root([], ends=True)
    assert seconds_of_step(recipe(head_only=True), network, CPU) > 0
    with pytest.raises(Ran):
        seconds_of_step(recipe(), network, CPU)
