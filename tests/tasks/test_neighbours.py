"""The nearest training images, against cosines that are computed at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from forebear.data.sources.registry import read_data
from forebear.errors import WeightsError
from forebear.network.network import Network
from forebear.tasks.neighbours import Neighbours
from tests.cli.making import CLASSES, folder
from tests.network.making import make


def network() -> Network:
    return make("paper/resnet20", num_classes=3)


def pooled(net: Network, paths: list[Path]) -> np.ndarray:
    with torch.no_grad():
        return net.end_points(net.preprocess(paths), ["pool"])["pool"].numpy()


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    values: np.ndarray = a @ b.T / lengths
    return values


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_the_nearest_by_cosine(tmp_path: Path, batch: int) -> None:
    net = network()
    searched = Neighbours(net, read_data(f"folder:{folder(tmp_path / 'data', 10)}"))
    wanted = sorted(folder(tmp_path / "in", 2).rglob("*.png"))
    paths, rows = searched.rows(wanted)
    assert paths == wanted
    np.testing.assert_allclose(rows, pooled(net, wanted), rtol=1e-4, atol=1e-5)
    train = [Path(searched.images.name(n)) for n in range(len(searched))]
    expected = cosines(pooled(net, wanted), pooled(net, train))
    counted: list[int] = []
    found = searched.nearest(rows, 4, batch=batch, advance=counted.append)
    assert sum(counted) == len(train) == len(searched)
    for line, near in zip(expected, found, strict=True):
        values = [one.similarity for one in near]
        assert len(near) == 4
        assert values == sorted(values, reverse=True)
        np.testing.assert_allclose(values, np.sort(line)[::-1][:4], rtol=1e-4)
        for one in near:
            assert one.similarity == pytest.approx(line[one.index], rel=1e-4)
            assert Path(one.name) == train[one.index]
            assert one.class_name == train[one.index].parent.name
    assert searched.heading == (
        f"nearest of the {len(train)} training images of folder:{tmp_path / 'data'}, by cosine "
        "similarity at pool"
    )
    assert searched.pixels(0).shape == (32, 32, 3)


def test_an_image_of_the_set_is_its_own_neighbour(tmp_path: Path) -> None:
    searched = Neighbours(network(), read_data(f"folder:{folder(tmp_path / 'data', 5)}"))
    path = Path(searched.images.name(3))
    _, rows = searched.rows([path])
    (first, *_), = searched.nearest(rows, 100)  # fmt: skip
    assert first.index == 3
    assert first.similarity == pytest.approx(1, abs=1e-6)
    assert first.similarity <= 1


def test_images_that_cannot_be_read_are_named_and_left_out(tmp_path: Path) -> None:
    searched = Neighbours(network(), read_data(f"folder:{folder(tmp_path / 'data', 5)}"))
    broken = Path(searched.images.name(2))
    good = Path(searched.images.name(0))
    broken.write_text("broken")
    read, rows = searched.rows([good, broken, good])
    assert read == [good, good]
    said: list[str] = []
    found = searched.nearest(rows, 100, batch=2, say=said.append)
    assert [text.partition(": not an image")[0] for text in said] == [str(broken)]
    for near in found:
        assert {one.index for one in near} == set(range(len(searched))) - {2}
    assert searched.nearest(rows[:0], 3) == []


def test_features_of_zeros_are_near_to_none(tmp_path: Path) -> None:
    searched = Neighbours(network(), read_data(f"folder:{folder(tmp_path / 'data', 4)}"))
    (near,) = searched.nearest(np.zeros((1, 64), np.float32), 2)
    assert [(one.index, one.similarity) for one in near] == [(0, 0.0), (1, 0.0)]


def test_features_that_are_not_finite(tmp_path: Path) -> None:
    net = network()
    searched = Neighbours(net, read_data(f"folder:{folder(tmp_path / 'data', 4)}"))
    with torch.no_grad():
        next(net.parameters()).fill_(float("nan"))
    message = rf"{CLASSES[0]}.*\.png: its features at pool are not finite"
    with pytest.raises(WeightsError, match=message):
        searched.nearest(np.ones((1, 64), np.float32), 1)
