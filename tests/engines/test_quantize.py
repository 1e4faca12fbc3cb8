from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forebear.engines import quantize as module
from forebear.engines.graph_card import read_card
from forebear.engines.make import check_pixels
from forebear.engines.quantize import METHODS, Accuracy, methods, quantize
from forebear.errors import WeightsError
from tests.engines.test_onnx_model import distance
from tests.tasks.export.test_formats import small

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from forebear.engines.onnx_model import write_onnx
from forebear.engines.onnxruntime_engine import OnnxRuntimeEngine


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    write_onnx(small(), tmp_path / "fp32.onnx")
    return tmp_path / "fp32.onnx"


def images(count: int, seed: int) -> Any:
    from forebear.engines.compare import synthetic_images

    return check_pixels(small().preprocessing, list(synthetic_images(count, 100, seed)))


def test_the_int8_graph_is_smaller_near_and_judged(
    graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = images(24, 1)
    plain = OnnxRuntimeEngine(graph)(pixels)
    labels = plain.argmax(1).tolist()
    target = graph.with_name("int8.onnx")
    found = quantize(graph, target, images(16, 2), pixels, labels, limit=20)
    assert found.method == ("nncf" if "nncf" in methods() else found.method)
    assert (found.images, found.before) == (24, 24)
    assert found.after == found.same >= 20
    engine = OnnxRuntimeEngine(target)
    assert engine.precision == "int8" == read_card(target).precision
    assert 1e-5 < distance(engine(pixels), plain) < 0.5  # random weights
    assert read_card(target).classes == ("a", "b", "c")
    weights = sum(len(one) for one in (target.read_bytes(),)) / graph.stat().st_size
    assert weights < 0.9
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("method", METHODS)
def test_each_method_gives_a_graph(
    method: str, graph: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if method not in methods():
        pytest.skip("could not import 'nncf'")
    monkeypatch.setattr(module, "methods", lambda: (method,))
    pixels = images(24, 1)
    plain = OnnxRuntimeEngine(graph)(pixels)
    target = graph.with_name("int8.onnx")
    found = quantize(graph, target, images(16, 2), pixels, plain.argmax(1).tolist(), limit=20)
    assert found.method == method
    assert 1e-5 < distance(OnnxRuntimeEngine(target)(pixels), plain) < 0.5  # random weights
    assert read_card(target).precision == "int8"
    assert capsys.readouterr() == ("", "")


def test_a_graph_that_loses_too_much_is_not_kept(graph: Path) -> None:
    pixels = images(24, 1)
    labels = OnnxRuntimeEngine(graph)(pixels).argmax(1).tolist()
    target = graph.with_name("int8.onnx")
    with pytest.raises(WeightsError, match=r"int8 loses .* Expected at most -30\."):
        quantize(graph, target, images(16, 2), pixels, labels, limit=-30)
    assert not target.exists()


def test_points_are_of_the_accuracy() -> None:
    found = Accuracy(images=200, before=180, after=179, same=190, method="minmax")
    assert found.lost == pytest.approx(0.5)
    assert found.line().startswith("top-1 90.00% before, 89.50% after, on 200 images; 95.00% have")
    assert found.line().endswith("ranges from the smallest to the largest value")
