from __future__ import annotations

from pathlib import Path

import pytest

from forebear.cli.main import main
from forebear.weights.native_format import save
from tests.cli.making import folder
from tests.tasks.export.test_formats import small

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path / "home"))
    save(small(), tmp_path / "w.safetensors", classes=("across", "down", "grey"))
    folder(tmp_path / "data", 12)
    return tmp_path / "w.safetensors"


@pytest.mark.long
def test_int8_is_asked_for_made_and_used(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = weights.parent
    image = str(place / "data" / "grey" / "0.png")
    words = ["predict", str(weights), image, "--precision", "int8", "--json"]
    assert main(words) == 2
    assert "Run forebear quantize RUN --data DATA first" in capsys.readouterr().err
    spec = f"folder:{place / 'data'}"
    assert main(["quantize", str(weights), "--data", spec, "--limit", "100"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("top-1 ")
    assert "on 36 images" in told.out
    assert "judged on" in told.err
    assert main(words) == 0
    assert '"probability"' in capsys.readouterr().out
    for engine in ("onnxruntime", "openvino"):
        pytest.importorskip(engine)
        assert main([*words, "--engine", engine]) == 0
    assert main([*words, "--engine", "torch"]) == 2
    assert "torch computes in fp32, bf16" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--limit", "-1"], "--limit -1: expected"),
        (["--images", "0"], "--images 0, "),
        (["--images", "4"], "4 training images. Expected 8 or more"),
    ],
)
def test_arguments_that_cannot_be(
    words: list[str], message: str, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = f"folder:{weights.parent / 'data'}"
    assert main(["quantize", str(weights), "--data", spec, *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.long
def test_the_kept_graph_is_exported(
    to: str, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino" if to == "openvino" else "onnx")
    place = weights.parent
    out = place / ("m.xml" if to == "openvino" else "m.onnx")
    image = str(place / "data" / "grey" / "0.png")
    words = ["export", str(weights), "--to", to, "--out", str(out), "--precision", "int8"]
    assert main([*words, "--with-preprocessing"]) == 2
    assert "there is no int8 graph of" in capsys.readouterr().err
    assert (
        main(["quantize", str(weights), "--data", f"folder:{place / 'data'}", "--limit", "99"]) == 0
    )
    assert main(words) == 2
    assert "takes uint8 pixels of one size" in capsys.readouterr().err
    assert main([*words, "--with-preprocessing"]) == 0
    capsys.readouterr()
    shown = []
    for source in ([str(weights), "--precision", "int8"], [str(out)]):
        engine = "openvino" if to == "openvino" else "onnxruntime"
        assert main(["predict", source[0], image, *source[1:], "--engine", engine]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert len(shown[0]) > 10
