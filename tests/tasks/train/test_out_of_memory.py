from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import forebear
from forebear import Block, Conv, Table
from forebear.errors import RunError
from forebear.network.network import Network
from forebear.tasks.train.out_of_memory import explain_out_of_memory
from forebear.tasks.train.recipe import Recipe

TINY = Table("tiny", (Conv("conv1", 4, 3),), "basic", (Block("block1", 1, 4, 4),), classes=3)
RECIPE = Recipe(lr=0.1, schedule="constant", epochs=1, batch=64, size=8, precision="fp32")


def small(monkeypatch: pytest.MonkeyPatch, most: int) -> Network:
    """A network on a device that has room for so many pictures."""
    forward = Network.forward

    def limited(self: Network, images: Tensor) -> Tensor:
        if len(images) > most:
            raise torch.OutOfMemoryError(f"tried to allocate {len(images)} pictures")
        return forward(self, images)

    monkeypatch.setattr(Network, "forward", limited)
    return forebear.create(TINY, dialect="torchvision")


@pytest.mark.parametrize(
    ("most", "told"),
    [
        (20, "16 fit. Pass --set accumulate=4 for the same steps, or --batch 16."),
        (1, "Not even 2 fit. Pass a smaller --size or network."),
    ],
)
def test_the_batch_that_fits_is_named(
    monkeypatch: pytest.MonkeyPatch, most: int, told: str
) -> None:
    network = small(monkeypatch, most)
    with (
        pytest.raises(RunError) as raised,
        explain_out_of_memory(network, RECIPE, torch.device("cpu")),
    ):
        network(torch.zeros(64, 3, 8, 8))
    assert str(raised.value).startswith("64 pictures of 8 x 8 pixels at a time do not fit")
    assert told in str(raised.value)


def test_other_errors_pass() -> None:
    network: Any = None
    with (
        pytest.raises(RuntimeError, match="another"),
        explain_out_of_memory(network, RECIPE, torch.device("cpu")),
    ):
        raise RuntimeError("another")
