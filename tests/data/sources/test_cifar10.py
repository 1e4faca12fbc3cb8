from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from forebear.data.sources.cifar10 import CLASSES
from forebear.data.sources.registry import read_data
from forebear.errors import DataError

BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
COUNT = 4  # pictures a batch


def planes(batch: int) -> NDArray[np.uint8]:
    return np.random.default_rng(batch).integers(0, 256, (COUNT, 3072), dtype=np.uint8)


def labels(batch: int) -> list[int]:
    return [(batch + place) % 10 for place in range(COUNT)]


def python_batch(batch: int) -> bytes:
    entries = {b"data": planes(batch), b"labels": labels(batch), b"filenames": [b"x.png"] * COUNT}
    return pickle.dumps(entries, protocol=2)


def binary_batch(batch: int) -> bytes:
    return b"".join(
        bytes([label]) + row.tobytes()
        for label, row in zip(labels(batch), planes(batch), strict=True)
    )


def python_files() -> dict[str, bytes]:
    files = {name: python_batch(number) for number, name in enumerate(BATCHES)}
    names = [name.encode() for name in CLASSES]
    return {**files, "batches.meta": pickle.dumps({b"label_names": names}, protocol=2)}


def binary_files() -> dict[str, bytes]:
    files = {f"{name}.bin": binary_batch(number) for number, name in enumerate(BATCHES)}
    return {**files, "batches.meta.txt": "\n".join([*CLASSES, ""]).encode()}


def archive(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "cifar.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def unpacked(folder: Path, files: dict[str, bytes]) -> Path:
    inner = folder / (
        "cifar-10-batches-bin" if "test_batch.bin" in files else "cifar-10-batches-py"
    )
    inner.mkdir()
    for name, content in files.items():
        (inner / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("files", [python_files, binary_files])
@pytest.mark.parametrize("lay", [archive, unpacked])
def test_both_forms_give_the_same_pictures(
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
    picture = np.asarray(data.train.image(COUNT + 2))
    np.testing.assert_array_equal(picture, np.stack([red, green, blue], axis=2))


def test_the_batches_own_folder_will_do(tmp_path: Path) -> None:
    inner = unpacked(tmp_path, python_files()) / "cifar-10-batches-py"
    assert len(read_data(f"cifar10:{inner}").train) == 5 * COUNT


def test_class_names_are_known_without_their_file(tmp_path: Path) -> None:
    files = binary_files()
    del files["batches.meta.txt"]
    assert read_data(f"cifar10:{archive(tmp_path, files)}").classes[9] == "truck"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_batch_3": None}, "data_batch_3 missing. Expected the training batches"),
        ({"data_batch_2": b""}, "data_batch_2: not a readable pickle"),
        ({"data_batch_2": python_batch(1)[:-200]}, "data_batch_2: not a readable pickle"),
        ({"test_batch": pickle.dumps([1])}, "test_batch: no entry data"),
        ({"test_batch": pickle.dumps({"data": planes(0)})}, "test_batch: no entry labels"),
        (
            {"test_batch": pickle.dumps({"data": planes(0)[:, :9], "labels": labels(0)})},
            r"test_batch: data \[4, 9\], labels 4\. Expected uint8 \[n, 3072\]",
        ),
        (
            {"test_batch": pickle.dumps({"data": planes(0), "labels": [0]})},
            r"test_batch: data \[4, 3072\], labels 1\.",
        ),
        (
            {"test_batch": pickle.dumps({"data": planes(0), "labels": [0, 1, 2, 10]})},
            r"test_batch: label 10 at index 3 .* Expected 0 to 9",
        ),
        ({"batches.meta": pickle.dumps({"label_names": ["a"]})}, "batches.meta: 1 class names"),
    ],
)
def test_damaged_python_batches_are_named(
    change: dict[str, bytes | None], message: str, tmp_path: Path
) -> None:
    files = {n: c for n, c in {**python_files(), **change}.items() if c is not None}
    with pytest.raises(DataError, match=message):
        read_data(f"cifar10:{archive(tmp_path, files)}")


def test_damaged_binary_batches_are_named(tmp_path: Path) -> None:
    cut = {**binary_files(), "data_batch_4.bin": binary_batch(3)[:-1]}
    with pytest.raises(
        DataError, match=r"data_batch_4\.bin: 12291 bytes\. Expected a multiple of 3073"
    ):
        read_data(f"cifar10:{archive(tmp_path, cut)}")
    wrong = {**binary_files(), "data_batch_4.bin": b"\x0b" + binary_batch(3)[1:]}
    with pytest.raises(DataError, match=r"data_batch_4\.bin: label 11 at index 0"):
        read_data(f"cifar10:{archive(tmp_path, wrong)}")


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    whole = archive(tmp_path, binary_files()).read_bytes()
    for content in (b"", b"words", whole[: len(whole) // 2]):
        (tmp_path / "bad.tar.gz").write_bytes(content)
        with pytest.raises(DataError, match=r"bad\.tar\.gz: cannot be read"):
            read_data(f"cifar10:{tmp_path / 'bad.tar.gz'}")
    with pytest.raises(DataError, match=r"gone\.tar\.gz: no such file"):
        read_data(f"cifar10:{tmp_path / 'gone.tar.gz'}")


def test_links_in_an_archive_are_no_batches(tmp_path: Path) -> None:
    path = tmp_path / "links.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in BATCHES:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
    with pytest.raises(DataError, match=r"data_batch_1, .* test_batch missing"):
        read_data(f"cifar10:{path}")
