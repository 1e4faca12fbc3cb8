"""The variables of a SavedModel load; its program is not read, and a note says so."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

import forebear
from forebear import WeightsError
from forebear.weights.load import sha256
from forebear.weights.readers.detect import open_arrays
from forebear.weights.readers.tensorflow.saved_model import is_saved_model, open_saved_model
from forebear.weights.writers.tensorflow.protobuf import message, number
from tests.weights.readers.making import damaged, refusal
from tests.weights.readers.object_making import Variable, tree_of, unpacked
from tests.weights.readers.tensorflow_making import GOLDENS


def made(folder: Path, program: str = "saved_model.pb") -> Path:
    """A SavedModel with one variable."""
    (folder / "variables").mkdir(parents=True)
    (folder / program).write_bytes(b"\x08\x01")
    tree_of(folder / "variables" / "variables", {"a": Variable("a/kernel")})
    return folder


def described(text: bytes, path: bytes = b"root") -> bytes:
    """Keras' description of one layer."""
    return message(1, number(2, 3), message(3, path), message(4, b"network"), message(5, text))


@pytest.mark.parametrize("program", ["saved_model.pb", "saved_model.pbtxt", "tfhub_module.pb"])
def test_the_folder_of_a_program_gives_its_variables(program: str, tmp_path: Path) -> None:
    folder = made(tmp_path / "net", program)
    assert is_saved_model(folder)
    with open_arrays(folder) as arrays:
        assert [*arrays] == ["a/kernel"]
        assert arrays.path == folder
        assert arrays.format == "TensorFlow SavedModel"
        assert arrays.model_config is None
        assert "the program of the SavedModel is not read" in arrays.notes[0]


@pytest.mark.parametrize(
    ("which", "dialect", "logits"),
    [("keras3", "keras-v1", "named"), ("keras2", "keras-graph", "automatic")],
)
def test_a_saved_model_of_keras_gives_its_logits(
    which: str, dialect: str, logits: str, tmp_path: Path
) -> None:
    unpacked(which, tmp_path)
    network = forebear.load(tmp_path / "saved")
    images = np.random.default_rng(5).normal(size=(2, 32, 32, 3)).astype(np.float32)
    with torch.inference_mode():
        found = network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    with np.load(tmp_path / "expected.npz") as expected:
        assert np.abs(found - expected[logits]).max() < 1e-6 * np.abs(expected[logits]).max()
    assert network.dialect.name == dialect
    notes = network.card.provenance["notes"]
    assert "the program of the SavedModel is not read" in notes
    assert ("left: _all_variables (56)" in notes) is (which == "keras3")


def test_automatic_names_need_the_description_of_the_layers(tmp_path: Path) -> None:
    unpacked("keras2", tmp_path)
    (tmp_path / "saved" / "keras_metadata.pb").unlink()
    with pytest.raises(WeightsError, match="match none of the"):
        forebear.load(tmp_path / "saved")


def test_a_tf_slim_network_in_a_saved_model_loads(tmp_path: Path) -> None:
    """Without an object graph, as TensorFlow 1 and TensorFlow Hub write it."""
    folder = tmp_path / "module"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"")
    name = "slim_tiny_v2.format_v2_3shards.ckpt"
    for file in GOLDENS.glob(f"{name}.*"):
        shutil.copyfile(file, folder / "variables" / file.name.replace(name, "variables"))
    network = forebear.load(folder)
    assert network.dialect.name == "slim-v2"
    assert "the program of the SavedModel is not read" in network.card.provenance["notes"]


def test_a_program_without_variables_is_refused(tmp_path: Path) -> None:
    shutil.rmtree(made(tmp_path / "net") / "variables")
    said = refusal(tmp_path / "net")
    assert "a TensorFlow SavedModel without variables/variables.index" in said
    assert "Pass the complete folder" in said


def test_the_root_of_the_description_is_taken(tmp_path: Path) -> None:
    folder = made(tmp_path / "net")
    layer = described(b'{"name": "a"}', b"root.layer-0")
    (folder / "keras_metadata.pb").write_bytes(layer + described(b'{"name": "net"}'))
    with open_saved_model(folder) as arrays:
        assert json.loads(arrays.model_config or "") == {"name": "net"}
    (folder / "keras_metadata.pb").write_bytes(layer)
    with open_saved_model(folder) as arrays:
        assert arrays.model_config is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (described(b"\xff"), "is not UTF-8"),
        (b"\x0a\xff", "varint"),
        (number(1, 4), "a number instead of bytes"),
    ],
)
def test_a_damaged_description_is_refused_with_its_file(
    data: bytes, said: str, tmp_path: Path
) -> None:
    folder = made(tmp_path / "net")
    (folder / "keras_metadata.pb").write_bytes(data)
    with pytest.raises(WeightsError, match=rf"keras_metadata\.pb: .*{said}"):
        open_arrays(folder)


def test_a_damaged_description_never_gives_another_exception(tmp_path: Path) -> None:
    unpacked("keras2", tmp_path)
    path = tmp_path / "saved" / "keras_metadata.pb"
    data = path.read_bytes()
    for seed in range(30):
        path.write_bytes(damaged(data, seed))
        with suppress(WeightsError):
            forebear.load(tmp_path / "saved")


def test_the_digest_covers_the_variables(tmp_path: Path) -> None:
    folder = made(tmp_path / "net")
    before = sha256(folder)
    tree_of(folder / "variables" / "variables", {"a": Variable("a/kernel", np.zeros(2))})
    assert sha256(folder) != before
