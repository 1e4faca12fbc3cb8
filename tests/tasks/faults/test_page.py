"""The table and the page of suggestions."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forebear.data.dataset import ArrayImages
from forebear.tasks.faults.page import (
    PAGE,
    SHOWN,
    SIDE,
    TABLE,
    check_folder,
    page,
    thumbnail,
    write_suggestions,
)
from forebear.tasks.faults.suggestions import Faults, Kind, Suggestion
from tests.tasks.faults import making

DATA = making.dataset([*making.rows(1, side=400), ("broken.png", b"words", 0)], making.rows(1))


def one(kind: Kind = "label", place: int = 0, **more: object) -> Suggestion:
    return Suggestion(
        **{  # type: ignore[arg-type]
            "place": place,
            "path": "across/0.png",
            "part": "train",
            "label": "across",
            "kind": kind,
            "score": 0.75,
            **more,
        }
    )


def faults(*suggestions: Suggestion) -> Faults:
    return Faults(
        images=6, skipped=1, suggestions=suggestions, across=1, methods=("by <b>hand</b>",)
    )


def test_the_page_needs_no_other_file_and_no_script() -> None:
    near = one("near-duplicate", other=4, other_path="across/4.png")
    text = page(faults(one(suggested="down"), near, one("outlier")), DATA)
    assert text.count("data:image/jpeg;base64,") == 4
    assert re.findall(r'(?:src|href)="(?!data:)', text) == []
    assert "<script" not in text
    assert "across → down" in text
    assert "training, score 0.750" in text
    assert "across/4.png" in text
    assert "images that cannot be used" in text


def test_all_text_is_escaped() -> None:
    bad = "<img src=x onerror=alert(1)>"
    text = page(faults(one(path=bad, label=bad, suggested=bad)), DATA)
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror" in text
    assert "by &lt;b&gt;hand" in text


def test_the_page_shows_the_first_suggestions_of_each_kind() -> None:
    many = [one() for _ in range(SHOWN + 7)]
    text = page(faults(*many, one("outlier")), DATA)
    assert text.count("<figure>") == SHOWN + 1
    assert "7 more in suggestions.csv" in text
    assert "Near-duplicates</h2>" not in text


def test_a_thumbnail_is_a_small_jpeg() -> None:
    uri = thumbnail(DATA.train, 0)
    image = Image.open(BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert (image.format, image.size) == ("JPEG", (SIDE, SIDE))
    grey = ArrayImages(np.zeros((1, 8, 8, 1), np.uint8), np.zeros(1, np.int64), "x")
    assert thumbnail(grey, 0).startswith("data:image/jpeg")


def test_a_tiny_image_is_enlarged_by_whole_pixels() -> None:
    pixels = np.zeros((1, 30, 50, 3), np.uint8)
    pixels[0, :, 25:] = 255
    uri = thumbnail(ArrayImages(pixels, np.zeros(1, np.int64), "x"), 0)
    image = np.asarray(Image.open(BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("L"))
    assert image.shape == (90, 150)
    assert image[:, 70].max() < 60
    assert image[:, 79].min() > 195


def test_paths_are_shown_below_the_folder_that_all_share() -> None:
    given = ("data/set/train/across/0.png", "data/set/train/down/4.png")
    text = page(faults(*[one(path=path) for path in given]), DATA)
    assert '<small title="data/set/train/across/0.png">across/0.png</small>' in text
    assert '<small title="data/set/train/down/4.png">down/4.png</small>' in text
    text = page(faults(one(path="digits number 3"), one(path="digits number 4")), DATA)
    assert ">digits number 3</small>" in text
    assert page(faults(), DATA).count("<figure>") == 0


def test_images_without_any_label_are_counted_and_labels_in_doubt_are_named() -> None:
    labels = np.array([[1, 0, 0], [0, 0, 0], [0, 1, 1], [0, 0, 0]], np.uint8)
    train = replace(DATA.train, labels=labels)  # type: ignore[type-var]
    several = replace(DATA, train=train, val=train.take(np.zeros(0, np.int64)))
    text = page(faults(one(suggested="across;grey", change="also grey")), several)
    assert "<b>2</b><span>images without any label</span>" in text
    assert "across → also grey" in text
    assert "of the least likely label" in text
    assert "without any label" not in page(faults(), DATA)


def test_an_image_that_can_no_longer_be_read_is_said() -> None:
    assert thumbnail(DATA.train, 3) == ""
    assert "cannot be read" in page(faults(one(place=3)), DATA)


def test_both_files_are_written(tmp_path: Path) -> None:
    write_suggestions(tmp_path, faults(one()), DATA)
    assert sorted(path.name for path in tmp_path.iterdir()) == [TABLE, PAGE]
    assert (tmp_path / TABLE).read_text().splitlines()[
        1
    ] == "across/0.png,train,across,label,,0.75,"
    assert (tmp_path / PAGE).read_text().startswith("<!doctype html>")


def test_only_a_new_or_an_empty_folder_is_taken_unless_it_may_be_replaced(tmp_path: Path) -> None:
    check_folder(tmp_path / "new", replace=False)
    check_folder(tmp_path, replace=False)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"the folder is not empty\. Expected a new or an empty"):
        check_folder(tmp_path, replace=False)
    check_folder(tmp_path, replace=True)
    write_suggestions(tmp_path, faults(), DATA)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(ValueError, match=r"it is a file\. Expected a folder"):
        check_folder(tmp_path / "notes.txt", replace=True)
