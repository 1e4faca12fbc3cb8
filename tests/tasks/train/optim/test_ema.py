from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from forebear.tasks.train.optim.ema import EMA


class Small(nn.Module):
    """One number of each kind that a network holds."""

    number: Tensor
    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("number", torch.zeros(1))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def set(self, value: float) -> None:
        with torch.no_grad():
            self.weight.fill_(value)
            self.number.fill_(-value)
            self.steps.fill_(int(value))


def values(average: EMA) -> dict[str, float]:
    found: dict[str, Tensor] = average.state_dict()["values"]
    return {name: float(value) for name, value in found.items()}


def test_the_first_steps_are_soon_forgotten() -> None:
    network = Small()
    average = EMA(network, 0.9)
    expected = 0.0
    for step in range(200):
        network.set(step + 1)
        average.update()
        kept = min((1 + step) / (10 + step), 0.9)
        expected = kept * expected + (1 - kept) * (step + 1)
        found = values(average)
        assert found["weight"] == pytest.approx(expected, rel=1e-4)
        assert found["number"] == pytest.approx(-expected, rel=1e-4)
        assert found["steps"] == step + 1


def test_an_update_every_so_many_steps_keeps_as_much_as_they_together() -> None:
    network = Small()
    average = EMA(network, 0.5, every=3)
    seen = []
    for step in range(30):
        network.set(step + 1)
        average.update()
        seen.append(values(average)["weight"])
    assert seen[:3] == [0.0, 0.0, pytest.approx(0.9 * 3)]
    kept = 0.5**3
    assert seen[29] == pytest.approx(kept * seen[26] + (1 - kept) * 30)
    assert seen[27] == seen[28] == seen[26]


def test_the_average_takes_the_network_s_place_and_leaves_it_again() -> None:
    network = Small()
    average = EMA(network, 0.9)
    network.set(10)
    average.update()
    network.set(20)
    weight = network.weight
    with average.swapped():
        assert network.state_dict()["weight"] == pytest.approx(9)
        assert network.state_dict()["number"] == pytest.approx(-9)
        assert int(network.steps) == 10
    assert {name: float(value) for name, value in network.state_dict().items()} == {
        "weight": 20,
        "number": -20,
        "steps": 20,
    }
    assert network.weight is weight
    assert values(average)["weight"] == pytest.approx(9)


def test_an_error_leaves_the_network_its_own_weights() -> None:
    network = Small()
    average = EMA(network, 0.9)
    network.set(10)
    with pytest.raises(ZeroDivisionError), average.swapped():
        1 / 0  # noqa: B018
    assert network.state_dict()["weight"] == 10


def test_an_average_loaded_goes_on_bit_for_bit() -> None:
    first, second = Small(), Small()
    whole, rest = EMA(first, 0.99, every=2), EMA(second, 0.99, every=2)
    for step in range(7):
        first.set(step / 3)
        whole.update()
    rest.load_state_dict(whole.state_dict())
    for step in range(7, 20):
        first.set(step / 3)
        second.set(step / 3)
        whole.update()
        rest.update()
    assert values(whole) == values(rest)


def test_an_average_of_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match="another network"):
        EMA(nn.Linear(1, 1), 0.9).load_state_dict(EMA(Small(), 0.9).state_dict())
