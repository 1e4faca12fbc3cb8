from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from forebear.weights.readers.detect import open_arrays
from forebear.weights.writers.tensorflow.checkpoint_v2 import write_tensorflow
from tests.weights.readers.making import KERAS_FILES, assert_same, damaged, golden, refusal

SOURCE = Path(__file__).parents[3] / "src"


def files(folder: Path) -> dict[str, bytes]:
    """A small file for every reader of this folder but TensorFlow's."""
    rng = np.random.default_rng(1)
    arrays = {f"layer{i}.weight": rng.normal(size=(4, 3, 2)).astype("f4") for i in range(9)}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    made = {name: golden(name, folder).read_bytes() for name in KERAS_FILES}
    save_file(tensors, folder / "a.safetensors")
    made["safetensors"] = (folder / "a.safetensors").read_bytes()
    for name, write in {"npz": np.savez, "npz compressed": np.savez_compressed}.items():
        buffer = io.BytesIO()
        write(buffer, **arrays)  # type: ignore[arg-type]
        made[name] = buffer.getvalue()
    for name, zipped in {"torch zip": True, "torch legacy": False}.items():
        buffer = io.BytesIO()
        torch.save({"state_dict": tensors}, buffer, _use_new_zipfile_serialization=zipped)
        made[name] = buffer.getvalue()
    return made


def outcome(path: Path) -> str:
    from forebear import WeightsError

    try:
        with open_arrays(path) as arrays:
            for name in arrays:
                array = arrays[name]
                assert (array.shape, array.dtype) == (arrays.shape(name), arrays.dtype(name))
    except WeightsError as error:
        said = str(error)
        assert said.startswith(str(path)), said
        assert said.isprintable(), said
        return "refused"
    return "read"


def test_damaged_files_are_refused_or_read_as_bare_arrays(tmp_path: Path) -> None:
    outcomes = [
        outcome(path)
        for data in files(tmp_path).values()
        for seed in range(20)
        if (path := tmp_path / "damaged").write_bytes(damaged(data, seed)) >= 0
    ]
    assert len(outcomes) == 20 * 15
    assert outcomes.count("refused") > 200


def test_the_name_does_not_tell(tmp_path: Path) -> None:
    for data in files(tmp_path).values():
        for ending in ("", ".h5", ".keras", ".pth", ".npz", ".safetensors", ".ckpt", ".JSON"):
            path = tmp_path / f"renamed{ending}"
            path.write_bytes(data)
            assert outcome(path) == "read"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "this file is empty"),
        (b"<html>404</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "a 7z archive"),
        (gzip.compress(b"hello", mtime=0), "a gzip archive"),
        (b"\x93NUMPY" + bytes(100), "a single .npy array"),
        (b"PK\5\6" + bytes(18), "starts with"),
        (b"some text\n", "starts with"),
        (bytes(100), "starts with"),
    ],
)
def test_what_is_no_checkpoint_is_told(data: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(data)
    said = refusal(path)
    assert told in said
    assert "TensorFlow checkpoint or SavedModel, Keras .h5" in said


def test_a_folder_with_one_tensorflow_checkpoint_is_read(tmp_path: Path) -> None:
    arrays = {"global_step": np.array(3)}
    write_tensorflow(tmp_path / "model.ckpt", arrays.items())
    with open_arrays(tmp_path) as found:
        assert_same(found, arrays)
    write_tensorflow(tmp_path / "other.ckpt", arrays.items())
    assert "this folder has 2 checkpoints, model.ckpt.index, other.ckpt.index" in refusal(tmp_path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "nowhere.h5")


def test_a_name_that_breaks_lines_is_escaped(tmp_path: Path) -> None:
    from forebear import WeightsError

    with pytest.raises(WeightsError) as caught:
        open_arrays(tmp_path / "a\nb\x1b[31m")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "forbidden",
    ["weights_only=False", "allow_pickle=True", "pickle.load", "import_module(name", "yaml.load("],
)
def test_no_path_in_the_package_unpickles_freely(forbidden: str) -> None:
    found = [
        path
        for path in (SOURCE / "forebear").rglob("*.py")
        if any(
            forbidden in line.replace(" ", "") and "`" not in line
            for line in path.read_text("utf-8").splitlines()
        )
    ]
    assert not found
