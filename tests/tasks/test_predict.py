"""predict: the most probable classes of each image, or an error that names the image."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import forebear
from forebear import RunError, WeightsError
from forebear.tasks.predict import predict
from tests.cli.making import image
from tests.network.making import make


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for kind, path in enumerate(paths):
        Image.fromarray(image(kind, 7)).save(path)
    return paths


def test_classes_without_names_are_shown_by_number(images: list[Path]) -> None:
    net = make("paper/resnet20")
    found = dict(predict(net, images, top=3))
    assert [*found] == images
    for guesses in found.values():
        names = [name for name, _ in guesses]
        assert set(names) <= set(map(str, range(10)))  # not "tensor(5)"
        assert len(names) == 3
        assert [share for _, share in guesses] == sorted((s for _, s in guesses), reverse=True)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_refused(images: list[Path], value: float) -> None:
    net = make("paper/resnet20")
    net.get_parameter("logits.bias").data[0] = value
    with pytest.raises(WeightsError, match=rf"0\.png: the results of .* are not finite \({value}"):
        list(predict(net, images))


@pytest.mark.parametrize("options", [{"num_classes": None}, {"global_pool": False}])
def test_a_network_that_gives_features_is_refused(
    images: list[Path], options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"^resnet20 has no classifier or no global pool, so it"):
        list(predict(make("paper/resnet20", **options), images))


def test_memory_that_runs_out_is_an_error_of_the_image(
    images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = make("paper/resnet20")

    def full(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(net, "forward", full)
    with pytest.raises(RunError, match=r"0\.png: memory ran out at an input size of 32 x 32 pix"):
        list(predict(net, images))


def test_top_is_at_least_1(images: list[Path]) -> None:
    with pytest.raises(ValueError, match=r"^top=0: expected 1 or more\. Pass the number"):
        list(predict(forebear.create("paper/resnet20"), images, top=0))
