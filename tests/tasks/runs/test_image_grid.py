from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from forebear.data.images.preprocess import normalise
from forebear.network.create import create
from forebear.network.multi_label import MultiLabel
from forebear.tasks.evaluate import Evaluation
from forebear.tasks.label_evaluation import LabelEvaluation
from forebear.tasks.runs.image_grid import (
    GAP,
    LINE,
    MARGIN,
    RED,
    TILE,
    as_pixels,
    draw_label_mistakes,
    draw_mistakes,
    draw_sheet,
)

RED_RGB = tuple(bytes.fromhex(RED[1:]))


def squares(count: int, side: int = 8, channels: int = 3) -> NDArray[np.uint8]:
    """Squares of one colour each: 40, 41 and so on in every channel."""
    values = np.arange(40, 40 + count, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(values, (count, side, side, channels)).copy()


def drawn(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


def of(labels: list[int], guesses: list[int]) -> Evaluation:
    count = len(labels)
    return Evaluation(
        classes=("cat", "dog"),
        labels=np.array(labels),
        guesses=np.array(guesses),
        in_top5=np.ones(count, bool),
        losses=np.arange(count, dtype=np.float32),
        confidences=np.full(count, 0.75, np.float32),
    )


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 4), (9, 4), (64, 8)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_is_on_the_sheet_in_rows(
    tmp_path: Path, count: int, columns: int, channels: int
) -> None:
    path = tmp_path / "sheet.png"
    draw_sheet(squares(count, channels=channels), ["x"] * count, path, title="all")
    sheet = drawn(path)
    assert sheet.shape[1] == 2 * MARGIN + max(columns, 4) * (TILE + GAP) - GAP
    shown = (sheet == sheet[:, :, :1]).all(2)
    for number in range(count):
        rows, across = np.nonzero(shown & (sheet[:, :, 0] == 40 + number))
        left = MARGIN + number % columns * (TILE + GAP)
        inside = (across >= left) & (across < left + TILE)
        assert inside.sum() >= TILE * TILE * 0.99
        assert np.ptp(rows[inside]) >= TILE - 1


@pytest.mark.parametrize("side", [1, 32, 224, 600])
def test_images_of_any_size_fill_their_tile(tmp_path: Path, side: int) -> None:
    draw_sheet(squares(1, side), ["x"], tmp_path / "sheet.png", title="one")
    sheet = drawn(tmp_path / "sheet.png")
    assert (sheet == 40).all(2).sum() >= TILE * TILE * 0.99


def test_pixels_between_two_integers_are_rounded(tmp_path: Path) -> None:
    draw_sheet(squares(1).astype(np.float32) + 0.6, ["x"], tmp_path / "a.png", title="floats")
    assert (drawn(tmp_path / "a.png") == 41).all(2).sum() >= TILE * TILE * 0.99


def test_mistakes_come_first_and_are_told_in_red(tmp_path: Path) -> None:
    asked: list[list[int]] = []

    def pixels_of(places: NDArray[np.int64]) -> NDArray[np.uint8]:
        asked.append(places.tolist())
        return squares(len(places))

    draw_mistakes(of([0, 1, 0], [1, 1, 1]), pixels_of, tmp_path / "some.png", title="a run")
    draw_mistakes(of([0, 1, 0], [0, 1, 0]), pixels_of, tmp_path / "none.png", title="a run")
    draw_mistakes(of([0] * 50, [1] * 50), pixels_of, tmp_path / "all.png", title="x", count=20)
    assert asked == [[2, 0, 1], [2, 1, 0], list(range(49, 29, -1))]
    red = [(drawn(tmp_path / name) == RED_RGB).all(2).any() for name in ("some.png", "none.png")]
    assert red == [True, False]


@pytest.mark.parametrize("name", ["torchvision/resnet18", "keras/ResNet50", "keras/ResNet50V2"])
def test_what_a_network_is_given_is_shown_as_it_was(name: str) -> None:
    rule = create(name, num_classes=2).preprocessing
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3), np.uint8)
    images = np.stack([normalise(image, rule) for image in pixels])
    np.testing.assert_array_equal(as_pixels(images, rule), pixels)


def test_names_of_any_kind_and_length_are_drawn(tmp_path: Path) -> None:
    names = ["a\nb", "猫" * 80, "$x^2$", "<b>" * 60]
    draw_sheet(squares(4), names, tmp_path / "sheet.png", title="t\0itle" * 90)
    wide = 2 * MARGIN + 4 * (TILE + GAP) - GAP
    sheet = drawn(tmp_path / "sheet.png")
    assert sheet.shape[1] == wide
    assert (sheet[:, :MARGIN] == 255).all()
    assert (sheet[:, -MARGIN:] == 255).all()


def of_labels(classes: tuple[str, ...], labels: list[int], given: list[int]) -> LabelEvaluation:
    """Two images: one with these labels that was given those, and one without a fault."""
    return LabelEvaluation(
        classes=classes,
        labels=np.array([labels, given], np.uint8),
        logits=np.where([given, given], 2, -2).astype(np.float32),
        losses=np.array([1, 0], np.float32),
        several=MultiLabel.of(len(classes)),
    )


def test_long_lists_of_missing_labels_have_a_second_line(tmp_path: Path) -> None:
    heights = []
    for name in ("a", "a label that is long"):
        classes = tuple(f"{name} {number}" for number in range(3))
        found = of_labels(classes, [1, 1, 1], [1, 0, 0])
        draw_label_mistakes(found, lambda places: squares(2)[places], tmp_path / "m.png", title="t")
        heights.append(drawn(tmp_path / "m.png").shape[0])
    assert heights[1] - heights[0] == LINE
    assert (drawn(tmp_path / "m.png") == RED_RGB).all(-1).any()


def test_labels_without_a_fault_are_not_red(tmp_path: Path) -> None:
    found = of_labels(("a", "b"), [1, 0], [1, 0])
    draw_label_mistakes(found, lambda places: squares(2)[places], tmp_path / "m.png", title="t")
    assert not (drawn(tmp_path / "m.png") == RED_RGB).all(-1).any()
