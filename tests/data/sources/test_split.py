from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from forebear.data.dataset import ArrayImages, Dataset, EncodedImages
from forebear.data.groups import Groups, grouped
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
    said = r"class dog has 2 images \(test number 2, \.\.\.\), 2 of them for validation"
    with pytest.raises(DataError, match=said):
        split_validation(images, fraction=0.2, spec="npz:x", classes=("cat", "dog"), side=1)


def by_groups(
    contents: list[int], labels: list[int], names: list[str], fraction: float = 0.2
) -> tuple[Dataset, Groups]:
    pixels = np.array(contents, dtype=np.uint8).reshape(-1, 1, 1, 1)
    groups = grouped("patient", {"all": names})["all"]
    data = split_validation(
        ArrayImages(pixels, np.array(labels), "test"),
        fraction=fraction,
        spec="npz:x",
        classes=("cat", "dog"),
        side=1,
        groups=groups,
    )
    return data, groups


def test_groups_and_copies_stay_on_one_side() -> None:
    contents = [*range(40), 0]  # the last one is a copy of the first, in another group
    names = [f"p{at // 4}" for at in range(40)] + ["p9"]
    data, groups = by_groups(contents, [0] * 20 + [1] * 20 + [1], names)
    sides = [
        {data.groups[part].name(i) for i in range(len(images))}
        for part, images in (("train", data.train), ("val", data.val))
    ]
    assert not sides[0] & sides[1]
    assert ("p0" in sides[0]) == ("p9" in sides[0])
    assert sides[0] | sides[1] == set(groups.names)
    assert (len(data.train), len(data.val)) in ((33, 8), (32, 9))
    assert data.whole is not None
    assert len(data.whole) == 41


@pytest.mark.parametrize(
    ("contents", "labels", "names", "said"),
    [
        ([0, 1, 2], [0, 0, 1], ["p", "p", "p"], "the whole data set has 3 images, all of them in "
         "the group p by patient"),
        ([0, 1, 2, 3], [0, 0, 1, 1], ["p", "q", "r", "r"], "class dog has 2 images, all of them in "
         "the group r by patient. Expected at least one group for training and one for val"),
        ([0, 1, 2, 2], [0, 0, 1, 1], ["p", "q", "r", "s"], "class dog has 2 images, all of them in "
         "the groups r, s by patient, which share copies of images and stay together"),
    ],
)  # fmt: skip
def test_groups_that_cannot_be_split_say_why(
    contents: list[int], labels: list[int], names: list[str], said: str
) -> None:
    with pytest.raises(DataError, match=f"^npz:x: {said}"):
        by_groups(contents, labels, names)


def test_groups_whose_classes_exclude_each_other_are_refused() -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(-1, 1, 1, 1)
    groups = grouped("patient", {"all": ["p", "p", "q", "q", "r", "r"]})["all"]
    with pytest.raises(DataError, match="is in 2 groups by patient, which no split was found for"):
        split_validation(
            ArrayImages(pixels, np.array([0, 2, 0, 1, 1, 2]), "test"),
            fraction=0.2, spec="npz:x", classes=("a", "b", "c"), side=1, groups=groups,
        )  # fmt: skip


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
