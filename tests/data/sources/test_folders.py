from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from forebear.data.images.bands import as_image
from forebear.data.sources.group_by import refuse_shared_groups
from forebear.data.sources.read_options import ReadOptions
from forebear.data.sources.registry import read_data
from forebear.errors import DataError
from tests.data.making import encoded, noise, shared, write


def fill(folder: Path, count: int, *, first: int = 0) -> None:
    for seed in range(first, first + count):
        write(folder / f"{seed}.png", encoded(noise(seed), "PNG"))


def test_a_folder_per_class_is_split_by_content(tmp_path: Path) -> None:
    fill(tmp_path / "dog", 20)
    fill(tmp_path / "cat", 40, first=20)
    data = read_data(f"folder:{tmp_path}")
    assert data.classes == ("cat", "dog")
    assert (data.channels, data.side, data.mirror) == (3, 224, True)
    assert np.bincount(data.train.labels).tolist() == [34, 17]
    assert np.bincount(data.val.labels).tolist() == [6, 3]
    assert data.val.labels.dtype == np.int64
    assert "15% of each class" in data.split
    assert data.splits_off
    assert Path(data.val.name(0)).parent.name == data.classes[data.val.labels[0]]
    assert as_image(data.val.image(0)).mode == "RGB"


def test_renaming_and_moving_the_folder_changes_neither_split_nor_fingerprint(
    tmp_path: Path,
) -> None:
    for root in ("one", "two"):
        for number, seed in enumerate(range(30)):
            name = f"{number if root == 'one' else 99 - number}.png"
            write(tmp_path / root / "ab"[seed % 2] / name, encoded(noise(seed), "PNG"))
    one, two = (read_data(f"folder:{tmp_path / root}") for root in ("one", "two"))
    assert one.fingerprint == two.fingerprint
    digests = [{data.val.digest(i) for i in range(len(data.val))} for data in (one, two)]
    assert digests[0] == digests[1]


def test_copies_of_an_image_never_straddle_the_split(tmp_path: Path) -> None:
    for seed in range(12):
        content = encoded(noise(seed), "PNG")
        for place in ("a/1", "a/2", "b/3") if seed % 2 else ("b/1", "a/4"):
            write(tmp_path / f"{place}-{seed}.png", content)
    data = read_data(f"folder:{tmp_path}")
    train, val = ({part.digest(i) for i in range(len(part))} for part in (data.train, data.val))
    assert len(train | val) == 12
    assert not train & val


@pytest.mark.parametrize("part", ["val", "Validation", "valid"])
def test_given_parts_are_kept_apart(part: str, tmp_path: Path) -> None:
    fill(tmp_path / "train" / "a", 3)
    fill(tmp_path / "train" / "b", 4, first=3)
    fill(tmp_path / part / "b", 2, first=7)
    data = read_data(f"folder:{tmp_path}")
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert data.val.labels.tolist() == [1, 1]  # classes of val may be fewer
    assert data.split == f"given by the folders train and {part}"
    assert not data.splits_off


def test_the_fingerprint_of_given_parts_is_that_of_the_content(tmp_path: Path) -> None:
    for seed, place in enumerate(("train/a/0", "train/a/1", "train/b/2", "val/a/3", "val/b/4")):
        write(tmp_path / f"{place}.bmp", encoded(noise(seed), "BMP"))

    def found() -> str:
        return read_data(f"folder:{tmp_path}").fingerprint

    before, file = found(), tmp_path / "train/a/0.bmp"
    file.rename(tmp_path / "train/a/9.bmp")
    assert found() == before
    file = tmp_path / "train/a/9.bmp"
    state, content = file.stat(), file.read_bytes()
    file.write_bytes(content[:-9] + bytes(9))  # of the same size, with the same time
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    changed = found()
    file.write_bytes((tmp_path / "train/b/2.bmp").read_bytes())  # two images change classes
    (tmp_path / "train/b/2.bmp").write_bytes(content)
    assert len({before, changed, found()}) == 3


def test_a_folder_with_only_a_train_part_is_split(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "a", 10)
    fill(tmp_path / "train" / "b", 10, first=10)
    data = read_data(f"folder:{tmp_path}")
    assert data.classes == ("a", "b")
    assert (len(data.train), len(data.val)) == (16, 4)


def test_train_is_a_class_among_vehicles(tmp_path: Path) -> None:
    fill(tmp_path / "car", 4)
    fill(tmp_path / "train", 4, first=4)
    assert read_data(f"folder:{tmp_path}").classes == ("car", "train")


def test_hidden_files_others_and_loops_are_passed_over(tmp_path: Path) -> None:
    fill(tmp_path / "Füße", 2)
    fill(tmp_path / "Füße" / "deeper" / "still", 2, first=2)
    write(tmp_path / "Füße" / "UPPER.PNG", encoded(noise(4), "PNG"))
    write(tmp_path / "Füße" / ".hidden.png", b"")
    write(tmp_path / "Füße" / ".git" / "x.png", b"")
    write(tmp_path / "Füße" / "notes.txt", b"words")
    write(tmp_path / ".cache" / "x.png", b"")
    (tmp_path / "Füße" / "loop").symlink_to(tmp_path / "Füße")
    (tmp_path / "Füße" / "itself").symlink_to("itself")
    data = read_data(f"folder:{tmp_path}")
    assert data.classes == ("Füße",)
    assert len(data.train) + len(data.val) == 5


def test_classes_are_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    for number, name in enumerate(["b", "a", "B", "é", "10", "9", "a\nb"]):
        fill(tmp_path / name, 2, first=2 * number)
    assert read_data(f"folder:{tmp_path}").classes == ("10", "9", "B", "a", "a\nb", "b", "é")


def test_folders_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone: no such folder\. Expected one folder per class"):
        read_data(f"folder:{tmp_path / 'gone'}")
    file = write(tmp_path / "file.png", b"x")
    with pytest.raises(DataError, match=r"file\.png: a file, not a folder"):
        read_data(f"folder:{file}")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="empty: no folder inside"):
        read_data(f"folder:{empty}")
    fill(empty, 3)
    with pytest.raises(DataError, match="empty: 3 images outside of class folders"):
        read_data(f"folder:{empty}")
    fill(empty / "cat", 3)
    (empty / "dog\x1b").mkdir()
    with pytest.raises(DataError, match=r"dog\\x1b': no images inside"):
        read_data(f"folder:{empty}")


def test_a_class_of_val_that_is_not_trained_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "cat", 2)
    fill(tmp_path / "val" / "dog", 2)
    with pytest.raises(DataError, match=r"val: class dog \(1 such classes\) is not in .*train"):
        read_data(f"folder:{tmp_path}")


def test_a_class_of_one_image_cannot_be_split(tmp_path: Path) -> None:
    fill(tmp_path / "cat", 5)
    fill(tmp_path / "dog", 1, first=5)
    said = r"class dog has 1 image \(.*dog.*5.*\), 1 of them for validation"
    with pytest.raises(DataError, match=said):
        read_data(f"folder:{tmp_path}")


def test_a_link_to_nowhere_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    fill(tmp_path / "cat", 2)
    fill(tmp_path / "dog", 2, first=2)
    (tmp_path / "cat" / "lost.jpg").symlink_to("nowhere")
    data = read_data(f"folder:{tmp_path}")
    assert data.whole is not None
    with pytest.raises(DataError, match=r"lost\.jpg: no such file"):
        data.whole.image(2)


def test_given_parts_are_not_decoded_to_start(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write(tmp_path / part / "a" / "1.png", b"not even an image")
    assert len(read_data(f"folder:{tmp_path}").val) == 1


@pytest.mark.long
def test_imagenette_is_counted() -> None:
    data = read_data(f"folder:{shared('data/imagenette')}")
    assert (len(data.train), len(data.val), len(data.classes)) == (9469, 3925, 10)


def test_groups_are_read_off_the_paths_and_stay_on_one_side(tmp_path: Path) -> None:
    for seed in range(40):
        kind, video = "ab"[seed % 2], seed // 4
        write(tmp_path / kind / f"v{kind}{video}" / f"{seed}.png", encoded(noise(seed), "PNG"))
    data = read_data(f"folder:{tmp_path}", ReadOptions(group_by="{group}/*"))
    sides = [
        {Path(part.name(i)).parent.name for i in range(len(part))}
        for part in (data.train, data.val)
    ]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 20
    assert [data.groups[part].count for part in ("train", "val")] == [len(side) for side in sides]
    with pytest.raises(DataError, match=r"a folder of images has no columns\. Expected a pattern"):
        read_data(f"folder:{tmp_path}", ReadOptions(group_by="video"))
    fill(tmp_path / "a", 1, first=99)
    with pytest.raises(DataError, match=r"a/99\.png: does not match .* \(1 of 41 images do not\)"):
        read_data(f"folder:{tmp_path}", ReadOptions(group_by="v{group}/*"))


def test_groups_in_two_given_parts_are_refused_and_unused_parts_have_none(tmp_path: Path) -> None:
    for seed, place in enumerate(("train/a/p1_0", "train/b/p2_0", "valid/a/p3_0", "test/a/p1_1")):
        write(tmp_path / f"{place}.png", encoded(noise(seed), "PNG"))
    data = read_data(f"folder:{tmp_path}", ReadOptions(group_by="{group}_*"))
    with pytest.raises(DataError, match=r"the group p1 is in train \(1 image, .*\) and test \("):
        refuse_shared_groups(data)
    (tmp_path / "test/a").rename(tmp_path / "test/c")  # a class that is not in training
    data = read_data(f"folder:{tmp_path}", ReadOptions(group_by="{group}_*"))
    assert data.test is None
    assert set(data.groups) == {"train", "val"}
    refuse_shared_groups(data)
