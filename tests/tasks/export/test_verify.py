from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from forebear.engines.compare import synthetic_images
from forebear.engines.graph_card import GraphCard
from forebear.engines.torch_engine import TorchEngine
from forebear.tables.preprocessing import TIMM_V2
from forebear.tasks.export.verify import compare
from tests.engines.test_onnx_model import prepared, sized
from tests.network.making import make, table

NETWORK = prepared(make(table("basic"), "torchvision", num_classes=3), sized(TIMM_V2, 64))
CARD = GraphCard(
    network="small", dialect="torchvision", preprocessing=NETWORK.preprocessing, size=64
)
IMAGES = synthetic_images(5, 80)


def test_an_equal_engine_is_equal() -> None:
    found = compare(NETWORK, TorchEngine(NETWORK), CARD, IMAGES, "fp32")
    assert found.equal
    assert (found.images, found.same_class, found.sizes) == (15, 15, ("64",))
    assert "15 of 15 images with the same class, in batches of 1, 3, 8 at 64 pixels" in found.line()


def test_a_rectangle_is_compared_at_its_size() -> None:
    rule = replace(NETWORK.preprocessing, width=80)
    network = prepared(make(table("basic"), "torchvision", num_classes=3), rule)
    card = replace(CARD, preprocessing=rule, any_size=True)
    found = compare(network, TorchEngine(network), card, IMAGES, "fp32")
    assert found.equal
    assert found.sizes == ("64x80", "80x100")


@pytest.mark.parametrize("fault", ["a class too low", "only large batches", "not finite"])
def test_other_results_are_not_equal(fault: str) -> None:
    engine = TorchEngine(NETWORK)

    def run(pixels: np.ndarray) -> np.ndarray:
        logits = engine(pixels)
        if fault == "a class too low":
            logits = np.roll(logits, 1, axis=1)
        elif fault == "not finite":
            logits[0, 0] = np.nan
        elif len(pixels) > 2:
            logits[2] += 0.1 * np.abs(logits).max()
        return logits

    assert not compare(NETWORK, run, CARD, IMAGES, "fp32").equal


def test_two_sizes_where_the_graph_takes_any() -> None:
    card = GraphCard(
        network="small", dialect="torchvision", preprocessing=NETWORK.preprocessing, size=64,
        any_size=True,
    )  # fmt: skip
    sides = []

    def run(pixels: np.ndarray) -> np.ndarray:
        sides.append(pixels.shape[1])
        return TorchEngine(NETWORK)(pixels)

    found = compare(NETWORK, run, card, IMAGES, "fp32")
    assert found.equal
    assert set(sides) == {64, 80}
    assert found.sizes == ("64", "80")
