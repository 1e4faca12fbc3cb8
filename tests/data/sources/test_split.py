from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from forebear.data.dataset import ArrayImages, EncodedImages
from forebear.data.sources.split import digests_of, fingerprint, split_validation, validating
from forebear.errors import DataError


def hashes(contents: NDArray[np.int64]) -> list[bytes]:
    return [hashlib.sha256(str(content).encode()).digest() for content in contents.tolist()]


def test_each_class_gives_its_share() -> None:
    labels = np.repeat([0, 1, 2], [100, 40, 3])
    val = validating(hashes(np.arange(143)), labels, 0.15)
    assert [int(val[labels == label].sum()) for label in range(3)] == [15, 6, 1]


def test_copies_stay_together_even_under_different_classes() -> None:
    random = np.random.default_rng(0)
    contents, labels = random.integers(0, 60, 400), random.integers(0, 3, 400)
    val = validating(hashes(contents), labels, 0.3)
    assert val.any()
    assert not val.all()
    assert not set(contents[val].tolist()) & set(contents[~val].tolist())


def test_the_split_does_not_hang_on_the_order() -> None:
    random = np.random.default_rng(1)
    contents, labels = random.integers(0, 60, 200), random.integers(0, 3, 200)
    order = random.permutation(200)
    val = validating(hashes(contents), labels, 0.2)
    shuffled = validating(hashes(contents[order]), labels[order], 0.2)
    np.testing.assert_array_equal(shuffled, val[order])


def test_a_class_that_cannot_be_on_both_sides_is_named() -> None:
    pixels = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
    pixels[3] = pixels[2]  # two copies of one image cannot be parted
    images = ArrayImages(pixels, np.array([0, 0, 1, 1]), "test")
    with pytest.raises(DataError, match=r"class dog has 2 images, 2 of them for validation"):
        split_validation(images, fraction=0.2, spec="npz:x", classes=("cat", "dog"), side=1)


def test_fingerprint_tells_content_label_part_and_class_names_but_not_order() -> None:
    one, two, three = (b"a", 0), (b"b", 1), (b"c", 1)
    known = fingerprint(("x", "y"), [one, two], [three])
    assert fingerprint(("x", "y"), [two, one], [three]) == known
    others = [
        fingerprint(("x", "z"), [one, two], [three]),
        fingerprint(("x", "y"), [one, (b"b", 0)], [three]),
        fingerprint(("x", "y"), [one, (b"d", 1)], [three]),
        fingerprint(("x", "y"), [one], [two, three]),
        fingerprint(("x", "y"), [one, two], []),
    ]
    assert len({known, *others}) == 6


def test_unreadable_images_count_by_their_file_names(tmp_path: Path) -> None:
    found = []
    for place in ("here", "elsewhere"):
        paths = [str(tmp_path / place / name) for name in ("a.png", "b.png")]
        found.append(digests_of(EncodedImages(paths, paths, np.array([0, 1]))))
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]
