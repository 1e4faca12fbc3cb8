from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forebear
from forebear.errors import RunError, WeightsError
from forebear.tasks.export.export import export
from forebear.tasks.export.formats import FORMATS, Options
from tests.tasks.export.test_formats import small

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def test_a_file_is_written_and_compared(tmp_path: Path) -> None:
    lines: list[str] = []
    done = export(small(), "onnx", tmp_path / "m.onnx", say=lines.append)
    assert done.comparison is not None
    assert done.comparison.equal
    assert done.bytes == (tmp_path / "m.onnx").stat().st_size
    assert "synthetic images" in lines[0]
    assert [one.name for one in tmp_path.iterdir()] == ["m.onnx"]


def test_images_of_ones_own(tmp_path: Path) -> None:
    lines: list[str] = []
    image = np.random.default_rng(0).integers(0, 255, (70, 90, 3)).astype(np.uint8)
    done = export(small(), "onnx", tmp_path / "m.onnx", images=[image], say=lines.append)
    assert done.comparison is not None
    assert done.comparison.images == 3  # one in each of three batch sizes
    assert lines == []


@pytest.mark.parametrize(
    ("to", "name", "options", "message"),
    [
        ("onx", "m.onnx", Options(), "to=onx: expected one of onnx, .* Did you mean onnx"),
        ("onnx", "m.pt", Options(), r"ending is \.pt\. Expected \.onnx for onnx"),
        ("onnx", "m", Options(), r"ending is missing\. Expected \.onnx"),
        ("torch-export", "m.pt2", Options(precision="fp16"), "torch-export is written in fp32"),
        ("litert", "m.tflite", Options(any_size=True), "litert files are written for one input"),
    ],
)
def test_what_cannot_be_is_refused(
    to: str, name: str, options: Options, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        export(small(), to, tmp_path / name, options)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("mine")
    with pytest.raises(RunError, match="the file exists"):
        export(small(), "onnx", tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_text() == "mine"
    export(small(), "onnx", tmp_path / "m.onnx", replace=True)
    assert (tmp_path / "m.onnx").stat().st_size > 1000


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the folder does not exist"):
        export(small(), "onnx", tmp_path / "no" / "m.onnx")


@pytest.mark.parametrize("fault", ["other results", "raises", "cannot be written"])
def test_a_wrong_file_is_not_kept(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = FORMATS["onnx"]

    def write(network: forebear.Network, path: Path, options: Options) -> Any:
        if fault == "cannot be written":
            path.write_text("half")
            raise TypeError("no such operation\nin the format")
        return kind.write(network, path, options)

    def run(path: Path, card: Any) -> Any:
        real = kind.run(path, card)

        def wrong(pixels: Any) -> Any:
            if fault == "raises":
                raise RuntimeError("no kernel")
            return real(pixels) * 1.01

        return wrong

    monkeypatch.setitem(FORMATS, "onnx", replace(kind, write=write, run=run))
    message = {
        "other results": "gives other results .*1.0e-02",
        "raises": r"does not run \(no kernel\)",
        "cannot be written": r"onnx cannot hold it \(no such operation",
    }[fault]
    with pytest.raises(WeightsError, match=message) as found:
        export(small(), "onnx", tmp_path / "m.onnx")
    assert "\n" not in str(found.value)
    assert list(tmp_path.iterdir()) == []
    done = (
        export(small(), "onnx", tmp_path / "m.onnx", unchecked=True) if fault == "raises" else None
    )
    assert done is None or done.comparison is None


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    network = small()
    network.get_parameter("logits.bias").data[0] = float("inf")
    with pytest.raises(WeightsError, match=r"logits\.bias has values that are not finite"):
        export(network, "onnx", tmp_path / "m.onnx")
