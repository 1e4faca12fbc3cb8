"""forebear calibrate: where it writes, what it prints, and that only the calibration changes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import forebear
from forebear.cli.main import main
from forebear.data.dataset import Dataset
from forebear.data.sources.read_options import ReadOptions
from forebear.data.sources.registry import read_data
from forebear.network.network import Network
from forebear.tasks.runs.lock import FolderLock
from forebear.tasks.runs.read import load_run
from tests.cli.making import CLASSES, folder
from tests.network.making import make


def network() -> Network:
    net = make("paper/resnet20", num_classes=3)
    net.get_parameter("logits.weight").data /= 20
    return net


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    forebear.save(network(), tmp_path / "net.safetensors", classes=list(CLASSES))
    return tmp_path / "net.safetensors"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.json").write_text("{}")
    forebear.save(network(), tmp_path / "run" / "model.safetensors", classes=list(CLASSES))
    return tmp_path / "run"


@pytest.fixture
def data(tmp_path: Path) -> str:
    return f"folder:{folder(tmp_path / 'data', 10)}"


def test_a_run_gets_its_calibration_in_place_and_nothing_else_changes(
    run: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_run(run)
    assert main(["calibrate", str(run), "--data", data, "--part", "all", "--json"]) == 0
    out, err = capsys.readouterr()
    assert f"{run / 'model.safetensors'} is replaced; only its calibration changes" in err
    found, after = json.loads(out), load_run(run)
    assert before.card.calibration is None
    fitted = after.card.calibration
    assert fitted is not None
    assert found["file"] == str(run / "model.safetensors")
    assert {name: found[name] for name in fitted.as_dict()} == fitted.as_dict()
    assert len(found["halves"]) == 2
    assert fitted.images == 30
    state = after.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in before.state_dict().items())
    assert after.classes == before.classes
    assert after.card.metrics == before.card.metrics
    assert sorted(path.name for path in run.iterdir()) == ["model.safetensors", "settings.json"]


def test_groups_are_split_as_in_training(
    saved: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pattern = "/{group}.png"
    words = ["calibrate", str(saved), "--data", data, "--part", "all", "--group-by", pattern]
    assert main([*words, "--json"]) == 0
    whole = read_data(data, ReadOptions(group_by=pattern))
    assert json.loads(capsys.readouterr().out)["fingerprint"] == whole.fingerprint
    assert read_data(data).fingerprint != whole.fingerprint


def test_the_data_are_read_once(run: Path, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def reading(spec: str, *more: ReadOptions) -> Dataset:
        read.append(spec)
        return read_data(spec, *more)

    monkeypatch.setattr("forebear.tasks.evaluation_set.read_data", reading)
    assert main(["calibrate", str(run), "--data", data, "--part", "all"]) == 0
    assert read == [data]


def test_a_weights_file_is_kept_and_a_new_file_is_written(
    saved: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = saved.read_bytes()
    words = ["calibrate", str(saved), "--data", data, "--part", "all", "--unknown", "0.2"]
    assert main(words) == 0
    target = saved.with_name("net-calibrated.safetensors")
    out = capsys.readouterr().out
    assert f"written to {target}" in out
    assert "20.00% of these images asked for" in out
    assert saved.read_bytes() == before
    assert forebear.load(target).card.calibration is not None
    assert main(words) == 2
    assert "the file exists. Expected a new file" in capsys.readouterr().err
    assert main([*words, "--replace"]) == 0
    assert main([*words, "--out", str(saved.with_name("other.safetensors"))]) == 0
    assert saved.with_name("other.safetensors").is_file()


def test_the_calibration_reaches_evaluate_and_predict(
    run: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("forebear.engines.open.MEASURED", ("torch",))
    image = str(tmp_path / "data" / "across" / "0.png")
    assert main(["predict", str(run), image, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)["classes"]
    plot = tmp_path / "r.png"
    words = ["--data", data, "--part", "all"]
    assert main(["calibrate", str(run), *words, "--plot", str(plot)]) == 0
    with Image.open(plot) as drawn:
        assert min(drawn.size) > 300
    capsys.readouterr()
    assert main(["predict", str(run), image, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["classes"]
    fitted = load_run(run).card.calibration
    assert fitted is not None
    assert found[0]["class"] == plain[0]["class"]
    ratio = np.log(plain[0]["probability"] / plain[1]["probability"])
    calibrated = np.log(found[0]["probability"] / found[1]["probability"])
    assert calibrated == pytest.approx(ratio / fitted.temperature, rel=1e-3)
    assert main(["evaluate", str(run), *words]) == 0
    assert f"(calibrated, temperature {fitted.temperature:.4g})" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--unknown", "1"), "unknown=1: expected a fraction between 0 and 1"),
        (("--unknown", "nan"), "unknown=nan: expected a fraction"),
        (("--unknown", "0.001"), "30 images to calibrate with.*Expected 1,000 images or more"),
        (("--out", "a.onnx"), r"a\.onnx: the suffix is \.onnx\. Expected \.safetensors"),
        (("--plot", "a.txt"), r"Expected \.png"),
        (("--part", "most"), "part='most': expected one of"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_writes_nothing(
    more: tuple[str, str], message: str, saved: Path, data: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    there = sorted(saved.parent.iterdir())
    assert main(["calibrate", str(saved), "--data", data, "--part", "all", *more]) == 2
    err = capsys.readouterr().err.splitlines()
    assert re.search(message, err[-1])
    assert sorted(saved.parent.iterdir()) == there


def test_a_graph_is_refused(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "m.onnx", "--data", data]) == 2
    assert "an exported graph is not calibrated" in capsys.readouterr().err


def test_a_missing_run_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "nowhere", "--data", "digits"]) == 2
    assert "nowhere: no such file or folder" in capsys.readouterr().err


def test_weights_that_are_no_file_need_a_name(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["calibrate", "--weights", "published", "--network", "slim/resnet_v1_50"]
    assert main([*words, "--data", data]) == 2
    assert "Pass --out FILE.safetensors" in capsys.readouterr().err


def test_a_run_that_is_being_trained_is_left_alone(
    run: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = FolderLock(run)
    lock.acquire()
    try:
        assert main(["calibrate", str(run), "--data", data, "--part", "all"]) == 2
    finally:
        lock.release()
    assert "is training here" in capsys.readouterr().err
    assert load_run(run).card.calibration is None


def test_images_of_the_training_are_named(
    run: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from forebear.data.sources.registry import read_data

    net, path = load_run(run), run / "model.safetensors"
    forebear.save(net, path, metrics={"fingerprint": read_data(data).fingerprint})
    assert main(["calibrate", str(run), "--data", data, "--part", "train"]) == 0
    assert "the network was trained on these images" in capsys.readouterr().err
