"""forebear evaluate: the figures, the classes and the confusion matrix that it prints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import forebear
from forebear.cli import output
from forebear.cli.main import main
from forebear.data.sources.read_options import ReadOptions
from forebear.network.network import Network
from forebear.tasks import evaluate as task
from forebear.tasks.evaluate import Evaluation
from tests.cli.making import CLASSES, folder
from tests.network.making import make


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    net = make("paper/resnet20", num_classes=3)
    forebear.save(net, tmp_path / "net.safetensors", classes=list(CLASSES))
    return tmp_path / "net.safetensors"


def given(monkeypatch: pytest.MonkeyPatch, classes: int = 3) -> list[object]:
    """Four images, of which three are right; the arguments that the task was called with."""
    asked: list[object] = []
    labels = np.array([0, 0, 1, 2])
    measured = Evaluation(
        classes=tuple(f"class{number}" for number in range(classes)),
        labels=labels,
        guesses=np.array([0, 1, 1, 2]),
        in_top5=np.ones(4, bool),
        losses=np.array([0.5, 1.5, 0.5, 0.5], np.float32),
        confidences=np.ones(4, np.float32),
    )

    def evaluate_on(network: Network, data: str, **options: object) -> Evaluation:
        asked.append((network.table.name, data, options))
        return measured

    monkeypatch.setattr(task, "evaluate_on", evaluate_on)
    return asked


def test_figures_and_matrix_are_printed(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = given(monkeypatch)
    words = ["--batch", "7", "--precision", "bf16", "--device", "cpu"]
    assert main(["evaluate", str(saved), "--data", "digits", *words]) == 0
    options: dict[str, object]
    options = {"part": None, "batch": 7, "precision": "bf16", "device": "cpu", "bad": "fail"}
    options |= {"mirrored": False, "say": output.note, "reading": ReadOptions()}
    assert asked == [("resnet20", "digits", options)]
    assert capsys.readouterr().out.splitlines() == [
        "images    4",
        "top-1     75.00% (95% interval: 30.1 to 95.4%)",
        "balanced  83.33% (95% interval: 27.7 to 98.4%), mean recall of the classes",
        "F1        77.78% (95% interval: 23.1 to 97.0%), mean of the classes",
        "loss      0.7500",
        "ECE       25.00% (not calibrated)",
        "",
        "class   images  recall     95% interval  precision",
        "class0       2   50.0%     9.5 to 90.5%     100.0%",
        "class1       1  100.0%   20.7 to 100.0%      50.0%",
        "class2       1  100.0%   20.7 to 100.0%     100.0%",
        "",
        "confusion matrix: true classes in rows, predictions in columns",
        "             0   1   2",
        "  0 class0   1   1   0",
        "  1 class1   0   1   0",
        "  2 class2   0   0   1",
    ]


@pytest.mark.parametrize(("classes", "top5", "matrix"), [(6, True, True), (21, True, False)])
def test_many_classes_have_a_top_5_and_no_matrix(
    classes: int,
    top5: bool,
    matrix: bool,
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given(monkeypatch, classes)
    assert main(["evaluate", str(saved), "--data", "digits"]) == 0
    out = capsys.readouterr().out
    assert ("top-5     100.00%\n" in out) == top5
    assert ("confusion matrix" in out) == matrix
    assert "\nclass3 " not in out  # classes without images have no line


def test_json_has_all_classes_and_the_matrix(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch)
    assert main(["evaluate", str(saved), "--data", "digits", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    first = found["classes"][0]
    assert first.pop("recall_interval") == pytest.approx([0.0945312, 0.9054688])
    assert first == {"class": "class0", "images": 2, "recall": 0.5, "precision": 1.0}
    assert found["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert (found["images"], found["top1"], found["loss"]) == (4, 0.75, 0.75)
    assert (found["ece"], found["calibrated"]) == (0.25, False)
    assert found["macro_f1"] == pytest.approx(7 / 9)
    assert found["balanced"] == pytest.approx(5 / 6)
    assert list(found["intervals"]) == ["top1", "balanced", "macro_f1"]
    assert found["intervals"]["top1"] == pytest.approx([0.3006418, 0.9544127])
    low, high = found["intervals"]["balanced"]
    assert 0 < low < found["balanced"] < high < 1


def test_a_network_is_evaluated_on_a_folder(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = f"folder:{folder(tmp_path / 'data', 10)}"
    assert main(["evaluate", "--weights", str(saved), "--data", data, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["class"] for row in found["classes"]] == list(CLASSES)
    assert sum(row["images"] for row in found["classes"]) == found["images"] > 0
    assert np.array(found["confusion"]).sum() == found["images"]


@pytest.mark.parametrize("option", ["--draw", "--draw-calibration"])
def test_a_drawing_that_cannot_be_made_is_refused_before_the_work(
    option: str,
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = given(monkeypatch)
    words = ["evaluate", str(saved), "--data", "digits", option]
    for name in ("a.txt", "none/a.png"):
        assert main([*words, str(tmp_path / name)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert asked == []
    assert main([*words, str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_mirror_images_are_answered_too(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = given(monkeypatch)
    assert main(["evaluate", str(saved), "--data", "digits", "--tta", "mirror"]) == 0
    assert "'mirrored': True" in str(asked)
    assert "takes twice the time" in capsys.readouterr().err


def test_mirror_images_change_the_losses(saved: Path, tmp_path: Path) -> None:
    spec = f"folder:{folder(tmp_path / 'set', 6)}"
    network = forebear.load(saved)
    plain, both = (task.evaluate_on(network, spec, mirrored=on) for on in (False, True))
    assert plain.images == both.images
    assert np.abs(plain.losses - both.losses).max() > 1e-6
    assert not network.training


def test_a_graph_of_another_program_is_evaluated_as_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    goldens = Path(__file__).parents[1] / "weights" / "goldens" / "families"
    asked = given(monkeypatch)
    path = goldens / "zoo_mxnet_v1_bottleneck.onnx"
    for words in ([str(path)], ["--weights", str(path)]):
        assert main(["evaluate", *words, "--data", "digits"]) == 0
        assert f"{path}: read from an ONNX graph of mxnet" in capsys.readouterr().err
    assert [one[0] for one in asked if isinstance(one, tuple)] == ["resnet14"] * 2
