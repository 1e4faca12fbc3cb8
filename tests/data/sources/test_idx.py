from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from forebear.data.images.bands import as_image
from forebear.data.sources.registry import read_data
from forebear.errors import DataError

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    header = bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def arrays() -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(0)
    return (
        random.integers(0, 256, (6, 9, 7), dtype=np.uint8),
        np.array([2, 0, 1, 1, 0, 2], dtype=np.uint8),
        random.integers(0, 256, (2, 9, 7), dtype=np.uint8),
        np.array([1, 0], dtype=np.uint8),
    )


def contents() -> dict[str, bytes]:
    return {name: idx(array) for name, array in zip(NAMES, arrays(), strict=True)}


def laid(folder: Path, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return f"idx:{folder}"


@pytest.mark.parametrize("form", ["plain", "gz", "points"])
def test_images_and_labels_are_those_of_the_files(form: str, tmp_path: Path) -> None:
    files = contents()
    if form == "gz":
        files = {f"{name}.gz": gzip.compress(content) for name, content in files.items()}
    if form == "points":
        files = {name.replace("-idx", ".idx"): content for name, content in files.items()}
    data = read_data(laid(tmp_path, files))
    assert data.classes == ("0", "1", "2")
    assert (data.channels, data.side, data.mirror) == (1, 7, False)
    assert data.train.labels.tolist() == [2, 0, 1, 1, 0, 2]
    assert data.val.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(np.asarray(data.train.image(4)), arrays()[0][4])
    assert as_image(data.val.image(0)).mode == "L"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (0, None, r"no train-images-idx3-ubyte inside\. Expected train-images-idx3-ubyte, train-"),
        (0, b"", r"train-images-idx3-ubyte: begins with b''"),
        (0, b"\x89PNG", r"begins with b'\\x89PNG'\. Expected an idx file of unsigned bytes with 3"),
        (0, idx(arrays()[0], 13), "Expected an idx file of unsigned bytes"),
        (0, idx(arrays()[1]), "with 3 axes"),
        (0, idx(arrays()[0])[:-1], r"377 bytes after the header, which declares \[6, 9, 7\]\."),
        (0, idx(arrays()[0]) + b"x", "more than 378 bytes after the header"),
        (0, idx(arrays()[0][:0]), "0 images, but 6 labels"),
        (0, bytes((0, 0, 8, 3)) + b"\xff" * 12, r"declares \[4294967295, 4294967295, 4294967295\]"),
        (1, idx(arrays()[1][:5]), r"6 images, but 5 labels in train-labels-idx1-ubyte"),
        (1, idx(arrays()[1] + 1), r"labels: labels 1, 2, 3\. .* Renumber"),
        (3, idx(arrays()[3] + 2), r"label 3 at index 0 .* Expected 0 to 2"),
        (2, idx(arrays()[2][:, :5]), r"training images \[9, 7\], test images \[5, 7\]"),
    ],
)
def test_files_that_do_not_fit_are_named(
    name: int, content: bytes | None, message: str, tmp_path: Path
) -> None:
    files = {key: value for key, value in contents().items() if key != NAMES[name]}
    if content is not None:
        files[NAMES[name]] = content
    with pytest.raises(DataError, match=message):
        read_data(laid(tmp_path, files))


def test_a_damaged_gz_is_named(tmp_path: Path) -> None:
    files = {f"{name}.gz": gzip.compress(content) for name, content in contents().items()}
    for content in (files[f"{NAMES[0]}.gz"][:-9], b"words", b"\x1f\x8b\x08" + b"\xff" * 30):
        spec = laid(tmp_path, {**files, f"{NAMES[0]}.gz": content})
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: cannot be read"):
            read_data(spec)


def test_a_gz_that_swells_is_unpacked_only_as_far_as_its_header_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swelling = gzip.compress(idx(arrays()[0]) + bytes(10**7))
    read: list[int] = []
    own = gzip.GzipFile.read

    def watched(file: gzip.GzipFile, size: int | None = -1) -> bytes:
        read.append(-1 if size is None else size)
        return own(file, size)

    monkeypatch.setattr(gzip.GzipFile, "read", watched)
    laid(tmp_path, {**contents(), f"{NAMES[0]}.gz": swelling})
    with pytest.raises(DataError, match="more than 378 bytes after the header"):
        read_data(_without(tmp_path))
    assert sum(read[:3]) < 1000
    assert min(read) >= 0


def test_a_gz_cannot_claim_more_than_it_can_hold(tmp_path: Path) -> None:
    claims = gzip.compress(bytes((0, 0, 8, 3)) + np.array([9000, 900, 900], ">u4").tobytes())
    laid(tmp_path, {**contents(), f"{NAMES[0]}.gz": claims})
    with pytest.raises(DataError, match=r"declares \[9000, 900, 900\], 7,290,000,000 bytes"):
        read_data(_without(tmp_path))


def _without(folder: Path) -> str:
    (folder / NAMES[0]).unlink()
    return f"idx:{folder}"
