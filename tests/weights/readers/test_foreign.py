"""Files of other frameworks are refused by name, with the reason and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebear.weights.readers.foreign import foreign_file
from forebear.weights.readers.onnx.onnx_file import is_onnx
from forebear.weights.writers.tensorflow.protobuf import message, number
from tests.weights.readers.making import refusal

TORCH7 = b"4\n1\n3\nV 1\n13\nnn.Sequential\n"
TABLE7 = b"3\n1\n2\n2\n5\nmodel\n4\n2\n3\nV 1\n"
CORE_ML = number(1, 4) + message(2, message(1, message(1, b"image"))) + message(500, b"")


@pytest.mark.parametrize(
    ("data", "what", "remedy"),
    [
        (TORCH7, "a Torch7 file in ASCII", "binary"),
        (TABLE7, "a Torch7 file in ASCII", "binary"),
        (b'{\n  "nodes": [\n', "the symbol of an MXNet network", ".params file next to it"),
        (b"\x1c\0\0\0TFL3" + bytes(20), "a TensorFlow Lite model", "Keras file"),
        (CORE_ML, "a Core ML model", "PyTorch or Keras"),
    ],
)
def test_a_file_of_another_framework(data: bytes, what: str, remedy: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(data)
    said = refusal(path)
    assert f"this is {what}" in said
    assert ". Expected a TensorFlow checkpoint or SavedModel, Keras .h5" in said
    assert remedy in said


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("saved_model.pb", "a TensorFlow SavedModel"),
        ("tfhub_module.pb", "a TensorFlow SavedModel without variables"),
        ("manifest.ocdbt", "an Orbax checkpoint"),
        ("Manifest.json", "a Core ML model"),
    ],
)
def test_a_folder_of_another_framework(name: str, what: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x08\x01\x12\x02\x0a\x00")
    if name == "tfhub_module.pb":
        (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12\x02\x0a\x00")
    assert f"this is {what}" in refusal(tmp_path)


def test_the_file_of_a_saved_model_is_not_one_of_core_ml(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12\x02\x0a\x00")
    assert "the program of a TensorFlow SavedModel" in refusal(tmp_path / "saved_model.pb")


def test_an_onnx_graph_is_not_taken_for_another() -> None:
    start = number(1, 8) + message(2, b"pytorch") + message(3, b"2.10")
    assert is_onnx(start)
    assert foreign_file(Path("a"), start) is None


@pytest.mark.parametrize("data", [TORCH7, TABLE7, CORE_ML])
def test_a_cut_file_is_refused_too(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    for length in range(1, len(data)):
        path.write_bytes(data[:length])
        assert refusal(path)
