"""Archives of CIFAR: damaged ones are named, and links in them are no batches."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path

import pytest

from forebear.data.sources.registry import read_data
from forebear.errors import DataError
from tests.data.sources.cifar_making import (
    BATCHES,
    COUNT,
    archive,
    binary_batch,
    binary_files,
    labels,
    planes,
    python_batch,
    python_files,
    unpacked,
)


def test_the_batches_own_folder_will_do(tmp_path: Path) -> None:
    inner = unpacked(tmp_path, python_files()) / "cifar-10-batches-py"
    assert len(read_data(f"cifar10:{inner}").train) == 5 * COUNT


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
