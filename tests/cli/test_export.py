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
def weights(tmp_path: Path) -> Path:
    save(small(), tmp_path / "w.safetensors", classes=("across", "down", "grey"))
    return tmp_path / "w.safetensors"


@pytest.mark.parametrize("inside", [False, True])
def test_an_exported_file_evaluates_as_its_weights(
    inside: bool, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = weights.parent
    images = folder(place / "data", 4)
    words = ["export", str(weights), "--to", "onnx", "--out", str(place / "m.onnx")]
    words += ["--images", str(images), *(["--with-preprocessing"] if inside else [])]
    assert main(words) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{place / 'm.onnx'}: small, ")
    assert "24 of 24 images with the same class" in told.out
    assert told.err == ""
    answers = []
    for source in (weights, place / "m.onnx"):
        words = ["evaluate", str(source), "--data", f"folder:{images}", "--part", "all", "--json"]
        assert main(words) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0].split('"loss"')[0] == answers[1].split('"loss"')[0]
    assert '"images": 12' in answers[0]


def test_a_file_of_another_program_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x09")
    words = ["evaluate", str(tmp_path / "m.onnx"), "--data", "folder:x"]
    assert main(words) == 2
    assert "Expected an ONNX file from forebear export" in capsys.readouterr().err


def test_a_folder_without_images_is_named(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = weights.parent / "m.onnx"
    (weights.parent / "empty").mkdir()
    words = ["export", str(weights), "--to", "onnx", "--out", str(out)]
    assert main([*words, "--images", str(weights.parent / "empty")]) == 2
    assert "no images inside" in capsys.readouterr().err
    assert not out.exists()
