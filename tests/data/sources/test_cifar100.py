from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from forebear.data.sources.cifar100 import CLASSES
from forebear.data.sources.registry import read_data
from forebear.errors import DataError

COUNT = 5  # images a batch


def planes(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (COUNT, 3072), dtype=np.uint8)


FINE = {"train": [3, 99, 0, 41, 3], "test": [7, 7, 98, 0, 1]}


def python_files() -> dict[str, bytes]:
    files = {
        name: pickle.dumps(
            {b"data": planes(seed), b"fine_labels": FINE[name], b"coarse_labels": [19] * COUNT}, 2
        )
        for seed, name in enumerate(FINE)
    }
    names = {b"fine_label_names": [n.encode() for n in CLASSES], b"coarse_label_names": [b"x"] * 20}
    return {**files, "meta": pickle.dumps(names, 2)}


def binary_files() -> dict[str, bytes]:
    return {
        f"{name}.bin": b"".join(
            bytes([19, label]) + row.tobytes()
            for label, row in zip(FINE[name], planes(seed), strict=True)
        )
        for seed, name in enumerate(FINE)
    } | {"fine_label_names.txt": "\n".join(CLASSES).encode()}


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-100-python/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_there_are_a_hundred_classes_in_alphabetical_order() -> None:
    assert len(CLASSES) == 100
    assert list(CLASSES) == sorted(CLASSES)


@pytest.mark.parametrize("form", ["python", "binary", "folder"])
def test_all_forms_give_the_fine_labels(form: str, tmp_path: Path) -> None:
    files = binary_files() if form == "binary" else python_files()
    path = tmp_path
    if form == "folder":
        inner = tmp_path / "cifar-100-python"
        inner.mkdir()
        for name, content in files.items():
            (inner / name).write_bytes(content)
        (tmp_path / "train").mkdir()  # a folder of this name is no batch
    else:
        path = archive(tmp_path / "cifar-100.tar.gz", files)
    data = read_data(f"cifar100:{path}")
    assert data.classes == CLASSES
    assert data.train.labels.tolist() == FINE["train"]
    assert data.val.labels.tolist() == FINE["test"]
    assert (data.side, data.channels, data.mirror) == (32, 3, True)
    expected = planes(0)[1].reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_array_equal(np.asarray(data.train.image(1)), expected)


def test_the_other_edition_is_not_taken_for_this_one(tmp_path: Path) -> None:
    path = archive(tmp_path / "cifar.tar.gz", python_files())
    with pytest.raises(DataError, match=r"data_batch_1.* missing\. .* cifar-10-python\.tar\.gz"):
        read_data(f"cifar10:{path}")
    with pytest.raises(ValueError, match="Did you mean cifar100:"):
        read_data(str(path.rename(tmp_path / "cifar-100-python.tar.gz")))


def test_labels_beyond_the_classes_are_named(tmp_path: Path) -> None:
    files = binary_files()
    files["test.bin"] = b"\x00\x64" + files["test.bin"][2:]
    with pytest.raises(DataError, match=r"test\.bin: label 100 at index 0 .* Expected 0 to 99"):
        read_data(f"cifar100:{archive(tmp_path / 'x.tar.gz', files)}")
