from __future__ import annotations

import re
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebear.data.images.bands import as_image
from forebear.data.sources.registry import read_data
from forebear.errors import DataError
from tests.data.making import shared, write


def arrays(**changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        "x_train": random.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": random.integers(0, 256, (2, 5, 4, 3), dtype=np.uint8),
        "y_test": np.array([2, 1], dtype=np.uint8),
        **changes,
    }


def saved(folder: Path, **changes: Any) -> str:
    kept = {name: array for name, array in arrays(**changes).items() if array is not None}
    np.savez(folder / "set.npz", **kept)
    return f"npz:{folder / 'set.npz'}"


def test_digits_are_grey_stratified_and_the_same_each_time() -> None:
    pytest.importorskip("sklearn")
    data, again = read_data("digits"), read_data("digits")
    assert (len(data.train), len(data.val)) == (1438, 359)
    assert (data.channels, data.side, data.mirror) == (1, 32, False)
    assert data.classes == tuple("0123456789")
    shares = np.bincount(data.val.labels) / np.bincount(
        np.append(data.val.labels, data.train.labels)
    )
    assert np.abs(shares - 0.2).max() < 0.01
    assert data.fingerprint == again.fingerprint
    image = as_image(data.train.image(0))
    assert (image.mode, image.size) == ("L", (8, 8))
    assert max(np.asarray(data.train.image(i)).max() for i in range(20)) == 255


def test_npz_gives_its_two_parts(tmp_path: Path) -> None:
    data = read_data(saved(tmp_path))
    assert data.classes == ("0", "1", "2")
    assert (data.channels, data.side, data.mirror) == (3, 4, True)
    assert data.val.labels.tolist() == [2, 1]
    np.testing.assert_array_equal(np.asarray(data.val.image(1)), arrays()["x_test"][1])


def test_npz_names_and_grey_images(tmp_path: Path) -> None:
    grey = {
        name: np.zeros((6 if name == "x_train" else 2, 7, 7), np.uint8)
        for name in ("x_train", "x_test")
    }
    data = read_data(saved(tmp_path, classes=np.array(["a", "b", "c", "d"]), **grey))
    assert data.classes == ("a", "b", "c", "d")
    assert (data.channels, as_image(data.train.image(0)).mode) == (1, "L")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None, "y_tset": [0]}, "no array y_test, only .* Did you mean y_tset"),
        (
            {"x_train": np.zeros((6, 5, 4, 3))},
            r"x_train is float64 \[6, 5, 4, 3\]\. Expected uint8",
        ),
        ({"x_test": np.zeros((2, 5, 4, 4), np.uint8)}, r"x_test \[5, 4, 4\]\. Expected equal"),
        ({"x_test": np.zeros((2, 5, 4, 3), np.uint16)}, "x_train is uint8, x_test uint16"),
        (
            {"x_test": np.zeros((2, 1, 1, 257), np.uint8)},
            r"x_test is uint8 \[2, 1, 1, 257\]\. Expected uint8 or uint16 .* 1 to 256 channels",
        ),
        ({"x_test": np.zeros((2, 9, 9, 3), np.uint8)}, r"x_train has images \[5, 4, 3\]"),
        ({"x_test": np.zeros((0, 5, 4, 3), np.uint8), "y_test": np.arange(0)}, "x_test is empty"),
        ({"y_train": np.zeros(5, int)}, r"y_train is int64 \[5\]\. Expected integers \[6\]"),
        ({"y_train": np.zeros((6, 1), int)}, r"y_train is int64 \[6, 1\]"),
        ({"y_train": np.zeros(6)}, r"y_train is float64 \[6\]"),
        (
            {"y_test": np.array([0, 3])},
            r"y_test: label 3 at index 1 \(1 such labels\)\. Expected 0 to 2",
        ),
        ({"y_test": np.array([-1, -1])}, r"y_test: label -1 at index 0 \(2 such labels\)"),
        ({"y_train": np.array([1, 2, 3, 1, 2, 3])}, r"y_train: labels 1, 2, 3\. .* Renumber"),
        ({"classes": np.array(["a", "b"])}, "y_train: label 2 at index 2"),
        (
            {"classes": np.array([1, 2, 3])},
            r"classes is int64 \[3\]\. Expected a one-dimensional array",
        ),
        ({"y_train": np.array([0, 1, None] * 2)}, "without Python objects"),
    ],
)
def test_npz_that_does_not_fit_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        read_data(saved(tmp_path, **changes))


def test_files_that_are_no_npz_are_refused(tmp_path: Path) -> None:
    for content in (b"", b"words", b"PK\x03\x04 cut"):
        path = write(tmp_path / "bad.npz", content)
        with pytest.raises(DataError, match=r"bad\.npz: cannot be read"):
            read_data(f"npz:{path}")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(DataError, match="not a zip file"):
        read_data(f"npz:{tmp_path / 'one.npy'}")
    with pytest.raises(DataError, match="no such file"):
        read_data(f"npz:{tmp_path / 'gone.npz'}")


def test_the_exact_subset_of_cifar10_is_read() -> None:
    data = read_data(f"npz:{shared('data/cifar10_exact_subset.npz')}")
    assert (len(data.train), len(data.val), data.side) == (5085, 1017, 32)
    assert data.classes == tuple("0123456789")


def member(shape: tuple[int, ...], content: bytes = b"") -> bytes:
    """An .npy file whose header claims a shape of bytes."""
    stream = BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + content


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def good() -> dict[str, bytes]:
    labels = BytesIO()
    np.save(labels, np.array([0, 1]))
    images = member((2, 3, 3), bytes(18))
    return {"x_train": images, "y_train": labels.getvalue(), "x_test": images,
            "y_test": labels.getvalue()}  # fmt: skip


def test_an_array_that_nobody_needs_is_not_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.npz", {**good(), "extra": b"no array at all"})
    assert len(read_data(f"npz:{path}").train) == 2


@pytest.mark.parametrize("claim", [(7 * 10**9,), (17 * 10**17,), (2**62, 2**62), (-1, 5)])
def test_a_header_that_claims_more_than_there_is_is_refused(
    claim: tuple[int, ...], tmp_path: Path
) -> None:
    path = archive(tmp_path / "x.npz", {**good(), "x_train": member(claim, bytes(18))})
    with pytest.raises(DataError, match=r"x_train\.npy has \d+ bytes for uint8"):
        read_data(f"npz:{path}")


def test_an_archive_that_swells_is_refused_from_its_header(tmp_path: Path) -> None:
    count = 200 * 2**20
    path = archive(tmp_path / "x.npz", {**good(), "x_train": member((count, 1, 1), bytes(count))})
    with pytest.raises(DataError, match=r"x_train\.npy claims 209,715,200 bytes\."):
        read_data(f"npz:{path}")


def test_archives_of_other_kinds_are_one_line(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.npz", good())
    content = bytearray(path.read_bytes())
    encrypted, method = content.copy(), content.copy()
    for at in (place.start() for place in re.finditer(rb"PK\x01\x02", bytes(content))):
        encrypted[at + 8] |= 1
        method[at + 10] = 99
    for broken in (encrypted, method, content[:-30], content[:100]):
        path.write_bytes(bytes(broken))
        with pytest.raises(DataError, match=r"x\.npz: cannot be read \(") as caught:
            read_data(f"npz:{path}")
        assert "\n" not in str(caught.value)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(DataError, match="a folder, not a file"):
        read_data(f"npz:{tmp_path / 'folder.npz'}")


def test_damage_anywhere_is_an_error_or_the_same_images(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.npz", good(), zipfile.ZIP_STORED)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(600):
        content = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            content[random.integers(len(content))] = random.integers(256)
        path.write_bytes(bytes(content[: random.integers(1, len(content) + 1)]))
        try:
            read_data(f"npz:{path}")
        except DataError as error:
            refused += "\n" not in str(error)
    assert refused > 300


def test_a_class_name_beyond_unicode_is_refused(tmp_path: Path) -> None:
    classes = BytesIO()
    np.save(classes, np.array([0x61, 0x65000062], np.uint32).view("<U1"))
    path = archive(tmp_path / "x.npz", {**good(), "classes": classes.getvalue()})
    with pytest.raises(DataError, match="classes has a character that is not in Unicode"):
        read_data(f"npz:{path}")


def test_the_names_of_other_arrays_are_escaped(tmp_path: Path) -> None:
    content = {name: array for name, array in good().items() if name != "x_train"}
    path = archive(tmp_path / "x.npz", {**content, "x_trai\x1b": good()["x_train"]})
    with pytest.raises(DataError, match=r"Did you mean .*'x_trai\\x1b'") as caught:
        read_data(f"npz:{path}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a", "a"], "the class name 'a' is the name of two classes"),
        (["a", ""], "the class name '' is empty"),
    ],
)
def test_class_names_must_differ(names: list[str], said: str, tmp_path: Path) -> None:
    classes = BytesIO()
    np.save(classes, np.array(names))
    path = archive(tmp_path / "x.npz", {**good(), "classes": classes.getvalue()})
    with pytest.raises(DataError, match=said):
        read_data(f"npz:{path}")
