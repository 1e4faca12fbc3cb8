from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forebear.engines.graph_card import (
    FORMAT,
    PROPERTY,
    GraphCard,
    is_foreign,
    parse_card,
    read_card,
)
from forebear.errors import WeightsError
from forebear.network.calibration import Calibration
from forebear.network.multi_label import MultiLabel
from forebear.tables.preprocessing import TORCHVISION
from forebear.weights.writers.tensorflow.protobuf import message

CARD = GraphCard(
    network="resnet18", dialect="torchvision", preprocessing=TORCHVISION, classes=("a", "b")
)


VALUES: dict[str, Any] = {
    "temperature": 1.5, "score": "energy", "threshold": 0.5, "unknown_rate": 0.05, "images": 99,
    "fingerprint": "ab", "ece_before": 0.1, "ece_after": 0.05,
}  # fmt: skip


def file(path: Path, text: str) -> Path:
    """An ONNX file without a graph: metadata_props is field 14, key 1, value 2."""
    pair = message(1, PROPERTY.encode()) + message(2, text.encode())
    path.write_bytes(message(2, b"forebear") + message(14, pair))
    return path


def test_a_card_is_read_back(tmp_path: Path) -> None:
    assert parse_card(CARD.text()) == CARD
    assert read_card(file(tmp_path / "m.onnx", CARD.text())) == CARD


def test_a_calibration_is_read_back_and_its_absence_leaves_the_older_text(tmp_path: Path) -> None:
    card = replace(CARD, calibration=Calibration(**VALUES))
    assert read_card(file(tmp_path / "m.onnx", card.text())) == card
    assert card.model_card().calibration == card.calibration
    assert json.loads(card.properties()["calibration"]) == VALUES
    assert "calibration" not in json.loads(CARD.text()) | CARD.properties()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "forebear graph 9"}, "is not 'forebear graph 1'"),
        ({"calibration": {"temperature": 1.0}}, "calibration: the key 'threshold' is missing"),
        ({"calibration": VALUES | {"temperature": 0}}, "temperature=0. Expected a number from"),
        ({"takes": "audio"}, "takes"),
        ({"size": 0}, "size"),
        ({"size": 10**9}, "size"),
        ({"dtype": "int4"}, "dtype"),
        ({"classes": ["a", "a"]}, "same name"),
        ({"classes": 3}, "other keys"),
        ({"surprise": 1}, "other keys"),
        ({"preprocessing": None}, "preprocessing"),
        ({"precision": ["fp32"]}, "precision"),
    ],
)
def test_values_that_no_graph_has_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    told = json.loads(CARD.text())
    assert told["format"] == FORMAT
    path = file(tmp_path / "m.onnx", json.dumps(told | changes))
    with pytest.raises(WeightsError, match=message) as found:
        read_card(path)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 10, b"\x72\xff\xff", b"not a model", b"\x0a\x01a"]
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(WeightsError, match="Expected an ONNX file from forebear export"):
        read_card(tmp_path / "m.onnx")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"m\.onnx"):
        read_card(tmp_path / "m.onnx")


def test_only_whole_graphs_without_a_card_are_foreign(tmp_path: Path) -> None:
    path, graph = tmp_path / "m.onnx", message(7, message(2, b"net"))
    path.write_bytes(message(2, b"pytorch") + graph)
    assert is_foreign(path)
    path.write_bytes(message(2, b"pytorch") + graph[:-1])
    assert not is_foreign(path)  # damaged
    path.write_bytes(message(2, b"pytorch"))
    assert not is_foreign(path)  # no model
    path.write_bytes(file(path, CARD.text()).read_bytes() + graph)
    assert not is_foreign(path)
    assert not is_foreign(tmp_path / "missing.onnx")
    assert not is_foreign(path.rename(tmp_path / "m.bin"))


def test_thresholds_are_read_back_and_their_absence_leaves_the_older_text(tmp_path: Path) -> None:
    card = replace(CARD, multi_label=MultiLabel(thresholds=(0.25, 0.5), images=9))
    assert read_card(file(tmp_path / "m.onnx", card.text())) == card
    assert card.model_card().multi_label == card.multi_label
    assert json.loads(card.properties()["multi_label"])["thresholds"] == [0.25, 0.5]
    assert "multi_label" not in json.loads(CARD.text()) | CARD.properties()
