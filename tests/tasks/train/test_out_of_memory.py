from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import forebear
from forebear import Block, Conv, Table
from forebear.cli.main import main
from forebear.data.dataset import ArrayImages
from forebear.data.loader import Loader
from forebear.data.pixel_store import PixelStore
from forebear.errors import RunError
from forebear.network.network import Network
from forebear.tables.preprocessing import TORCHVISION
from forebear.tasks.evaluate import evaluate_on
from forebear.tasks.train.budget.evaluation import seconds_of_image
from forebear.tasks.train.input_pipeline import features
from forebear.tasks.train.out_of_memory import (
    explain_anywhere,
    explain_evaluation,
    explain_out_of_memory,
)
from forebear.tasks.train.recipe import Recipe
from tests.cli.making import folder, table

TINY = Table("tiny", (Conv("conv1", 4, 3),), "basic", (Block("block1", 1, 4, 4),), classes=3)
RECIPE = Recipe(lr=0.1, schedule="constant", epochs=1, batch=64, size=8, precision="fp32")


def small(monkeypatch: pytest.MonkeyPatch, most: int) -> Network:
    """A network on a device that has room for so many images."""
    forward = Network.forward

    def limited(self: Network, images: Tensor) -> Tensor:
        if len(images) > most:
            raise torch.OutOfMemoryError(f"tried to allocate {len(images)} images")
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
@pytest.mark.long
def test_the_batch_that_fits_is_named(
    monkeypatch: pytest.MonkeyPatch, most: int, told: str
) -> None:
    network = small(monkeypatch, most)
    with (
        pytest.raises(RunError) as raised,
        explain_out_of_memory(network, RECIPE, torch.device("cpu")),
    ):
        network(torch.zeros(64, 3, 8, 8))
    assert str(raised.value).startswith("64 images of 8 x 8 pixels at a time do not fit")
    assert told in str(raised.value)


def test_other_errors_pass() -> None:
    network: Any = None
    with (
        pytest.raises(RuntimeError, match="another"),
        explain_out_of_memory(network, RECIPE, torch.device("cpu")),
    ):
        raise RuntimeError("another")
    with pytest.raises(RuntimeError, match="another"), explain_anywhere():
        raise RuntimeError("another")


def test_what_filled_the_memory_is_gone_before_another_batch_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = small(monkeypatch, 20)
    held: list[weakref.ref[nn.Module]] = []
    left: list[object] = []

    def fill() -> None:
        large = nn.Module()
        held.append(weakref.ref(large))
        raise MemoryError

    forward = Network.forward

    def watched(self: Network, images: Tensor) -> Tensor:
        left.append(held[0]())
        return forward(self, images)

    monkeypatch.setattr(Network, "forward", watched)
    with (
        pytest.raises(RunError, match=r"\(MemoryError\)\. Expected fewer: 16 fit\."),
        explain_out_of_memory(network, RECIPE, torch.device("cpu")),
    ):
        fill()
    assert left == [None, None]  # of 32 and of 16 images


def black(count: int, batch: int) -> Loader:
    """Black images of 8 pixels a side."""
    images = ArrayImages(np.zeros((count, 8, 8, 3), np.uint8), np.arange(count) % 3, "black")
    rule = replace(TORCHVISION, size=8, side=8, resize="shorter", interpolation="bilinear")
    store = PixelStore(images, rule, workers=0, disk=0)
    return Loader(
        store=store, labels=images.labels, rule=rule, batch=batch, device=torch.device("cpu")
    )


@pytest.mark.parametrize(
    ("least", "told"),
    [
        (1, "Expected fewer: 25 fit. Pass --batch 25."),
        (64, "Expected images that fit. Use a smaller input size or network."),
    ],
)
@pytest.mark.long
def test_the_batch_that_can_be_evaluated_is_named(
    monkeypatch: pytest.MonkeyPatch, least: int, told: str
) -> None:
    network = small(monkeypatch, 30).train()
    batches = black(200, 512)
    with (
        pytest.raises(RunError) as raised,
        explain_evaluation(network, batches, "fp32", least=least),
    ):
        network(torch.zeros(200, 3, 8, 8))
    assert str(raised.value).startswith("200 images of 8 x 8 pixels at a time cannot be evaluated")
    assert str(raised.value).endswith(told)
    assert network.training


def test_features_that_do_not_fit_are_explained() -> None:
    network = forebear.create(TINY, dialect="torchvision")

    def limited(module: nn.Module, given: tuple[Tensor]) -> None:
        if len(given[0]) > 130:
            raise torch.OutOfMemoryError("full")

    network.root.register_forward_pre_hook(limited)
    with pytest.raises(RunError, match=r"^256 images .* \(full\)\. .* Pass --batch 128\.$"):
        features(network, black(300, 256), RECIPE)


def test_the_first_timing_of_an_evaluation_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small(monkeypatch, 8)
    with pytest.raises(RunError, match="^32 images of 8 x 8 pixels at a time cannot be evaluated"):
        seconds_of_image(network, black(200, 64), "fp32", until=0.0)


def test_an_evaluation_of_data_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = folder(tmp_path / "data")
    network = small(monkeypatch, 4)
    with pytest.raises(RunError, match=r"^9 images .* cannot be evaluated .* Pass --batch 4\.$"):
        evaluate_on(network.eval(), f"folder:{data}", part="val", device="cpu")


@pytest.mark.parametrize(
    ("way", "told"),
    [
        ("evaluation", "9 images of 16 x 16 pixels at a time cannot be evaluated in the memory"),
        ("first step", "8 images of 16 x 16 pixels at a time do not fit in the memory of cpu"),
        ("start", "memory ran out (full). Expected room for the network"),
    ],
)
@pytest.mark.long(after=1)
def test_a_run_that_finds_no_memory_ends_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    way: str,
    told: str,
) -> None:
    forward = Network.forward

    def limited(self: Network, images: Tensor) -> Tensor:
        if self.training == (way == "first step"):
            raise torch.OutOfMemoryError("full")
        return forward(self, images)

    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("full")

    if way == "start":
        monkeypatch.setattr("forebear.tasks.train.prepare.load_images", fail)
    else:
        monkeypatch.setattr(Network, "forward", limited)
    data, net = folder(tmp_path / "data"), table(tmp_path / "tiny.toml")
    words = f"train --data folder:{data} --network {net} --dialect torchvision --size 16"
    more = f"--epochs 1 --batch 8 --device cpu --out {tmp_path / 'run'}"
    assert main(f"{words} {more}".split()) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"forebear: {told}")
