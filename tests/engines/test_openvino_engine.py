from __future__ import annotations

from pathlib import Path

import pytest

from forebear.engines.graph_card import read_card
from forebear.errors import WeightsError
from forebear.tables.preprocessing import SLIM_VGG, TIMM_V2
from tests.engines.test_onnx_model import distance, expected, pixels, prepared, sized
from tests.network.making import make, table

pytest.importorskip("onnx")
pytest.importorskip("openvino")

from forebear.engines.onnx_model import write_onnx
from forebear.engines.openvino_engine import OpenVinoEngine


@pytest.mark.parametrize("dialect", ["slim-v1", "keras-v2", "torchvision", "paper-cifar"])
def test_equal_logits(dialect: str, tmp_path: Path) -> None:
    network = prepared(make(table(), dialect, num_classes=4), sized(TIMM_V2, 65))
    write_onnx(network, tmp_path / "m.onnx")
    given = pixels(network.preprocessing)
    engine = OpenVinoEngine(tmp_path / "m.onnx", threads=1)
    assert engine.precision == "fp32"
    assert distance(engine(given), expected(network, given)) < 1e-5
    assert distance(engine(given[:1]), expected(network, given[:1])) < 1e-5


def test_pixels_between_integers_are_kept(tmp_path: Path) -> None:
    network = prepared(make(table(), "slim-v1", num_classes=4), sized(SLIM_VGG, 65))
    write_onnx(network, tmp_path / "m.onnx")
    given = pixels(network.preprocessing) * 0.99
    engine = OpenVinoEngine(tmp_path / "m.onnx", threads=1)
    assert distance(engine(given.astype("float32")), expected(network, given)) < 1e-5


def test_a_damaged_graph_is_refused(tmp_path: Path) -> None:
    network = prepared(make(table(), "slim-v1", num_classes=4), sized(SLIM_VGG, 65))
    card = write_onnx(network, tmp_path / "m.onnx")
    content = (tmp_path / "m.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match="OpenVINO cannot load it"):
        OpenVinoEngine(tmp_path / "m.onnx", card=card)
    with pytest.raises(WeightsError):
        read_card(tmp_path / "m.onnx")
