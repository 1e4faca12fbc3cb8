from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from forebear.weights.readers.detect import open_arrays
from tests.weights.readers.keras.making import legacy
from tests.weights.readers.making import (
    GOLDENS,
    KERAS_FILES,
    assert_same,
    expected,
    golden,
    refusal,
    shared,
)

h5py = pytest.importorskip("h5py")  # to make odd files; reading needs none
_PUBLISHED = [
    *("keras2_tiny_v1.h5", "keras2_tiny_v1.whole.h5", "keras2_tiny_v2.h5"),
    *("keras2_tiny_v2.whole.h5", "keras2_tiny_resnext.h5", "keras3_tiny_v1.weights.h5"),
    *("keras3_tiny_v1.whole.h5", "keras3_tiny_v1.keras", "keras3_tiny_v2.weights.h5"),
    *("keras3_tiny_v2.whole.h5", "keras3_tiny_v2.keras"),
]


@pytest.mark.parametrize("name", KERAS_FILES)
def test_every_layout_of_keras_gives_the_arrays_that_keras_had(name: str, tmp_path: Path) -> None:
    with open_arrays(golden(name, tmp_path)) as arrays:
        assert_same(arrays, expected(GOLDENS / name))


@pytest.mark.parametrize("name", _PUBLISHED)
def test_tiny_networks_of_keras_come_bit_for_bit(name: str) -> None:
    path = shared(f"goldens/checkpoints/{name}")
    with open_arrays(path) as arrays:
        assert_same(arrays, expected(path))


def test_order_is_the_files_and_not_the_alphabets(tmp_path: Path) -> None:
    with open_arrays(golden("keras2.h5", tmp_path)) as arrays:
        names = list(arrays)
    assert names[:2] == ["conv1_conv/kernel", "conv1_conv/bias"]
    assert names.index("a10_conv/kernel") < names.index("a9_conv/kernel")


def test_names_of_keras_1_become_those_of_keras_2(tmp_path: Path) -> None:
    given = {
        "bn_conv1_gamma": "bn_conv1/gamma",
        "bn_conv1_beta": "bn_conv1/beta",
        "bn_conv1_running_mean": "bn_conv1/moving_mean",
        "bn_conv1_running_std": "bn_conv1/moving_variance",  # it is one, whatever its name
    }
    values = {f"{name}:0": np.full(3, i, "f4") for i, name in enumerate(given)}
    with open_arrays(legacy(tmp_path / "a.h5", "bn_conv1", values)) as arrays:
        assert_same(arrays, dict(zip(given.values(), values.values(), strict=True)))
    values = {"conv1_W:0": np.ones((3, 3, 1, 2), "f4"), "conv1_b:0": np.ones(2, "f4")}
    with open_arrays(legacy(tmp_path / "b.h5", "conv1", values)) as arrays:
        assert list(arrays) == ["conv1/kernel", "conv1/bias"]


def test_a_scope_that_tensorflow_numbered_anew_does_not_change_the_name(tmp_path: Path) -> None:
    path = legacy(tmp_path / "a.h5", "conv1", {"conv1_2/kernel:0": np.ones(2, "f4")})
    with open_arrays(path) as arrays:
        assert list(arrays) == ["conv1/kernel"]


def test_a_norm_without_all_four_arrays_keeps_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.weights.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/batch_normalization/vars")
        group.attrs["name"] = "bn"
        for number in range(3):
            group[str(number)] = np.ones(2)
        file.create_group("optimizer/vars")["0"] = np.ones(1)  # no array of the network
    with open_arrays(path) as arrays:
        assert list(arrays) == ["bn/0", "bn/1", "bn/2"]


def test_arrays_outlive_their_file_and_unknown_names_are_key_errors(tmp_path: Path) -> None:
    with open_arrays(golden("keras3.keras", tmp_path)) as arrays:
        kernel = arrays["predictions/kernel"]
        with pytest.raises(KeyError):
            arrays["nowhere"]
    assert np.isfinite(kernel).all()


def test_a_listed_layer_or_weight_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = legacy(tmp_path / "a.h5", "conv1", {"kernel:0": None})
    assert "conv1/kernel: this dataset does not exist" in refusal(path)
    with h5py.File(path, "a") as file:
        del file["conv1"]
    assert "conv1: this layer is listed, but its weights are missing" in refusal(path)


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    path = legacy(tmp_path / "a.h5", "conv1", {"kernel:0": np.ones(1), "a/b/kernel:0": np.ones(1)})
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = [b"conv1", b"conv1"]
    assert "two arrays have this name" in refusal(path)


@pytest.mark.parametrize("ending", ["h5", "keras"])
def test_a_lambda_layer_is_not_built(ending: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    code = f"__import__('pathlib').Path({str(canary)!r}).touch()"
    layer = {
        "class_name": "Lambda",
        "module": "keras.layers",
        "config": {"name": "evil", "function": {"class_name": "__lambda__", "config": code}},
    }
    config = json.dumps({"class_name": "Functional", "config": {"layers": [layer]}})
    path = golden(f"keras3.{'whole.h5' if ending == 'h5' else 'keras'}", tmp_path)
    wanted = expected(GOLDENS / path.name)
    if ending == "h5":
        wanted["b_conv/kernel"] = wanted.pop("b_conv/depthwise_kernel")  # told by the true config
        with h5py.File(path, "a") as file:
            file.attrs["model_config"] = config
    else:
        with ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with ZipFile(path, "w") as archive:
            for name, data in (members | {"config.json": config.encode()}).items():
                archive.writestr(name, data)
    with open_arrays(path) as arrays:
        assert_same(arrays, wanted)
    assert not canary.exists()


def test_hdf5_of_something_else_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["images"] = np.ones((3, 3))
    assert "it is an HDF5 file without Keras layers" in refusal(path)
