"""A checkpoint is recognised by the names and shapes of its arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import forebear
from forebear import WeightsError
from forebear.weights.identify import fits
from forebear.weights.readers.detect import open_arrays
from tests.network.making import make


@pytest.mark.parametrize("name", ["slim/resnet_v1_50", "keras/ResNet50V2", "timm/resnetv2_18"])
@pytest.mark.long
def test_a_checkpoint_is_recognised_with_its_classes_and_channels(
    tmp_path: Path, name: str
) -> None:
    from forebear.tasks.convert import convert

    forebear.save(make(name, num_classes=11, in_channels=4), tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.npz")
    with open_arrays(tmp_path / "b.npz") as arrays:
        (fit,) = fits(arrays)
    assert (fit.network, fit.num_classes, fit.in_channels) == (name, 11, 4)


def test_arrays_of_no_published_network_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", weight=np.zeros((3, 3), np.float32))
    with pytest.raises(WeightsError, match="its 1 arrays match none of the 73 published networks"):
        forebear.load(tmp_path / "a.npz")
    with pytest.raises(WeightsError, match="1 unexpected"):
        forebear.load("paper/resnet20", weights=tmp_path / "a.npz")
