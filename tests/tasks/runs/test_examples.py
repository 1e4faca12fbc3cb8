from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import forebear
from forebear.data.dataset import ArrayImages
from forebear.data.loader import Loader
from forebear.data.pixel_store import PixelStore
from forebear.network.calibration import Calibration
from forebear.network.network import Network
from forebear.tasks.evaluate import Evaluation, evaluate
from forebear.tasks.runs.examples import (
    SHOWN,
    Example,
    Examples,
    choose_examples,
    read_examples,
    write_examples,
)

CLASSES = ("cat", "dog", "owl")
URI = "data:image/png;base64,AAAA"
ONE = Example(
    name="a", label="cat", predicted="dog", label_probability=0.1, probability=0.9, image=URI
)
Made = tuple[Network, Loader, Evaluation]


@pytest.fixture(scope="module")
def made() -> Made:
    """An untrained network, 40 images of noise, and what it makes of them."""
    torch.manual_seed(0)
    network = forebear.create("paper/resnet20", num_classes=3).eval()
    rule = replace(network.preprocessing, size=16, side=16)
    calibration = Calibration(
        temperature=0.5, threshold=0.1, unknown_rate=0.05, images=40, ece_before=0.2, ece_after=0.1
    )
    network.card = replace(
        network.card, classes=CLASSES, preprocessing=rule, calibration=calibration
    )
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    labels = random.integers(0, 3, 40)
    store = PixelStore(ArrayImages(pixels, labels, "noise"), rule, workers=0)
    images = Loader(store=store, labels=labels, rule=rule, batch=8, device=torch.device("cpu"))
    return network, images, evaluate(network, images, CLASSES, precision="fp32")


def test_mistakes_are_the_most_confident_ones_with_maps(made: Made) -> None:
    network, images, measured = made
    found = choose_examples({"training": [1, 2, 3]}, measured, images, network)
    assert found.parts == {"training": [1, 2, 3]}
    assert found.mistakes is not None
    wrong = np.flatnonzero(measured.labels != measured.guesses)
    order = wrong[np.argsort(-measured.confidences[wrong])][:SHOWN]
    assert {one.name for one in found.mistakes} == {f"noise number {at}" for at in order}
    shown = [one.probability for one in found.mistakes]
    assert shown == sorted(shown, reverse=True)
    assert all(one.map.startswith("data:image/") for one in found.mistakes)
    assert all(one.label != one.predicted for one in found.mistakes)


def test_suspects_have_the_lowest_probability_of_the_label_with_the_temperature(made: Made) -> None:
    network, images, measured = made
    found = choose_examples({}, measured, images, network).suspects
    assert found is not None
    assert not any(one.map for one in found)
    lowest = [one.label_probability for one in found]
    assert lowest == sorted(lowest)
    at = int(found[0].name.rpartition(" ")[2])
    assert at == int(measured.losses.argmax())
    assert found[0].label == CLASSES[measured.labels[at]]
    assert found[0].predicted == CLASSES[measured.guesses[at]]
    inputs = torch.cat([batch for batch, _ in images.in_order()])
    with torch.no_grad():
        shares = torch.softmax(network(inputs[at : at + 1]) / 0.5, 1)[0]
    assert lowest[0] == pytest.approx(float(shares[measured.labels[at]]), rel=1e-4)
    assert found[0].probability == pytest.approx(float(shares.max()), rel=1e-4)


def test_images_of_a_part_of_the_set_keep_their_names(made: Made) -> None:
    network, images, _ = made
    few = replace(images, shown=np.array([30, 5, 20, 11, 7, 2]))
    rows = evaluate(network, few, CLASSES, precision="fp32")
    order = np.argsort(few.places)
    measured = replace(
        rows,
        **{
            name: getattr(rows, name)[order]
            for name in ("labels", "guesses", "in_top5", "losses", "confidences")
        },
    )
    found = choose_examples({}, measured, few, network).suspects
    assert found
    names = {f"noise number {at}" for at in (30, 5, 20, 11, 7, 2)}
    assert {one.name for one in found} <= names
    for one in found:
        assert one.label == CLASSES[images.labels[int(one.name.rpartition(" ")[2])]]


def test_mistakes_that_the_final_weights_do_not_make_are_left_out(made: Made) -> None:
    network, images, measured = made
    right = replace(measured, guesses=(measured.labels + 1) % 3)  # those of other weights
    found = choose_examples({}, right, images, network).mistakes
    assert found is not None
    assert 0 < len(found) < SHOWN
    perfect = replace(measured, guesses=measured.labels)
    assert choose_examples({}, perfect, images, network).suspects == ()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    parts = {"training": (1, 2, 3)}
    for examples in (
        Examples(parts=parts),
        Examples(parts=parts, unlabelled={"training": 7}),
        Examples(parts=parts, mistakes=(replace(ONE, map=URI),), suspects=()),
    ):
        write_examples(examples, tmp_path)
        assert read_examples(tmp_path) == examples


@pytest.mark.parametrize(
    ("name", "value"),
    [("image", "javascript:alert(1)"), ("map", "x"), ("probability", "1"), ("image", None)],
)
def test_a_damaged_file_is_ignored(tmp_path: Path, name: str, value: Any) -> None:
    write_examples(Examples(mistakes=(ONE,)), tmp_path)
    data = json.loads((tmp_path / "examples.json").read_text())
    data["mistakes"][0][name] = value
    (tmp_path / "examples.json").write_text(json.dumps(data))
    assert read_examples(tmp_path) == Examples()


@pytest.mark.parametrize("text", ["", "[]", '{"parts": []}', '{"parts": {"a": 1}}', "{}"])
def test_another_file_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "examples.json").write_text(text)
    assert read_examples(tmp_path) == Examples()
