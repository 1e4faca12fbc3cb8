from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from forebear.data.sources.registry import read_data
from forebear.errors import DataError
from tests.data.making import encoded, noise

CLASSES = ["tench", "church", "horn"]


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library, offline and with a cache of its own."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    library = pytest.importorskip("datasets", minversion="5.2")
    monkeypatch.setattr(library.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    library.disable_progress_bars()
    return library


def part(
    datasets: Any, labels: list[Any], first: int = 0, *, column: str = "label", feature: Any = None
) -> Any:
    images = [
        {"bytes": encoded(noise(first + at), "PNG"), "path": None} for at in range(len(labels))
    ]
    feature = feature or datasets.ClassLabel(names=CLASSES)
    features = datasets.Features({"pixels": datasets.Image(), column: feature})
    return datasets.Dataset.from_dict({"pixels": images, column: labels}, features=features)


def saved(datasets: Any, folder: Path, **parts: Any) -> str:
    datasets.DatasetDict(parts).save_to_disk(folder)
    return f"hub:{folder}"


def test_columns_are_found_by_their_types(datasets: Any, tmp_path: Path) -> None:
    train = part(datasets, [2, 0, 1, 1], column="what")
    spec = saved(
        datasets, tmp_path / "set", train=train, validation=part(datasets, [1], 9, column="what")
    )
    data = read_data(spec)
    assert data.classes == tuple(CLASSES)
    assert data.train.labels.tolist() == [2, 0, 1, 1]
    assert (data.side, data.channels, data.mirror) == (224, 3, True)
    assert data.split == "given by the splits train and validation"
    np.testing.assert_array_equal(np.asarray(data.train.image(2)), np.asarray(noise(2)))
    np.testing.assert_array_equal(np.asarray(data.val.image(0)), np.asarray(noise(9)))
    assert data.train.name(2).endswith("set train row 2")
    assert data.train.source(1) == encoded(noise(1), "PNG")


def test_a_part_alone_is_split_and_strings_are_labels(datasets: Any, tmp_path: Path) -> None:
    labels = ["dog", "cat"] * 10
    part(datasets, labels, feature=datasets.Value("string")).save_to_disk(tmp_path / "one")
    data = read_data(f"hub:{tmp_path / 'one'}")
    assert data.classes == ("cat", "dog")
    assert (len(data.train), len(data.val)) == (16, 4)
    row = int(data.val.name(1).rpartition(" ")[2])
    assert labels[row] == data.classes[data.val.labels[1]]
    np.testing.assert_array_equal(np.asarray(data.val.image(1)), np.asarray(noise(row)))


def test_a_folder_of_images_is_read_in_place(datasets: Any, tmp_path: Path) -> None:
    for name in ("train", "test"):
        for at, kind in enumerate(("cat", "dog")):
            folder = tmp_path / "set" / name / kind
            folder.mkdir(parents=True)
            noise(at).save(folder / "0.png")
    data = read_data(f"hub:{tmp_path / 'set'}")
    assert data.classes == ("cat", "dog")
    assert (len(data.train), len(data.val)) == (2, 2)
    at = data.train.labels.tolist().index(1)
    np.testing.assert_array_equal(np.asarray(data.train.image(at)), np.asarray(noise(1)))


def test_the_fine_label_is_taken_of_two(datasets: Any, tmp_path: Path) -> None:
    def both(labels: list[int]) -> Any:
        own = part(datasets, labels, column="fine_label")
        coarse = datasets.ClassLabel(names=["x", "y"])
        return own.add_column("coarse_label", [0] * len(labels)).cast_column("coarse_label", coarse)

    spec = saved(datasets, tmp_path / "set", train=both([0, 1, 2]), test=both([2]))
    assert read_data(spec).val.labels.tolist() == [2]


def test_what_does_not_fit_is_named(datasets: Any, tmp_path: Path) -> None:
    whole = part(datasets, [0, 1, 2])
    number = datasets.Value("int64")
    for at, (parts, message) in enumerate(
        [
            ({"left": whole, "right": whole}, r"splits left, right\. Expected one called train"),
            ({"train": whole.remove_columns("label")}, r"columns pixels \(Image\)\. Expected one"),
            ({"train": whole.remove_columns("pixels")}, r"columns label \(ClassLabel\)"),
            (
                {"train": whole, "test": part(datasets, [-1])},
                r"test: column label: label -1 at index 0 .* Expected 0 to 2",
            ),
            (
                {"train": part(datasets, [1, 2], feature=number)},
                r"column label: labels 1, 2\. .* use a ClassLabel",
            ),
        ]
    ):
        with pytest.raises(DataError, match=message):
            read_data(saved(datasets, tmp_path / str(at), **parts))


def test_a_name_that_cannot_be_had_says_so(datasets: Any) -> None:
    with pytest.raises(DataError, match=r"^nobody/nothing: cannot be loaded \(.*hub:USER/NAME"):
        read_data("hub:nobody/nothing")


def stub(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Puts in place a `datasets` that knows no name; the list of what it is asked for."""
    asked: list[Any] = []

    def load_dataset(name: str, config: str | None) -> Any:
        asked.append((name, config))
        raise FileNotFoundError(f"no {name}")

    library = SimpleNamespace(__version__="5.2.0", load_dataset=load_dataset)
    monkeypatch.setitem(sys.modules, "datasets", library)
    return asked


@pytest.mark.parametrize(
    ("name", "meanings"),
    [
        ("mnist", [("mnist", None)]),
        ("ylecun/mnist", [("ylecun/mnist", None), ("ylecun", "mnist")]),
        ("user/name/160px", [("user/name", "160px")]),
    ],
)
def test_names_mean_a_data_set_or_its_configuration(
    name: str, meanings: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = stub(monkeypatch)
    with pytest.raises(DataError, match="cannot be loaded"):
        read_data(f"hub:{name}")
    assert asked == meanings


def test_a_library_that_runs_scripts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(__version__="3.6.0"))
    with pytest.raises(DataError, match=r"datasets 3\.6\.0: can run code"):
        read_data("hub:mnist")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'forebear\[datasets\]'"):
        read_data("hub:mnist")


def test_a_script_in_a_folder_is_not_run(datasets: Any, tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    with pytest.raises(DataError, match="cannot be loaded"):
        read_data(f"hub:{folder}")
    assert not (tmp_path / "canary").exists()
