from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from forebear.data.sources.cifar10 import CLASSES
from forebear.data.sources.registry import read_data
from tests.data.sources.cifar_making import (
    COUNT,
    archive,
    binary_files,
    labels,
    planes,
    python_files,
    unpacked,
)


@pytest.mark.parametrize("files", [python_files, binary_files])
@pytest.mark.parametrize("lay", [archive, unpacked])
def test_both_forms_give_the_same_images(
    files: Callable[[], dict[str, bytes]],
    lay: Callable[[Path, dict[str, bytes]], Path],
    tmp_path: Path,
) -> None:
    data = read_data(f"cifar10:{lay(tmp_path, files())}")
    assert data.classes == CLASSES
    assert (data.side, data.channels, data.mirror) == (32, 3, True)
    assert data.train.labels.tolist() == [n for batch in range(5) for n in labels(batch)]
    assert data.val.labels.tolist() == labels(5)
    red, green, blue = planes(1)[2].reshape(3, 32, 32)
    image = np.asarray(data.train.image(COUNT + 2))
    np.testing.assert_array_equal(image, np.stack([red, green, blue], axis=2))


def test_class_names_are_known_without_their_file(tmp_path: Path) -> None:
    files = binary_files()
    del files["batches.meta.txt"]
    assert read_data(f"cifar10:{archive(tmp_path, files)}").classes[9] == "truck"
