from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from forebear.cli.main import main
from forebear.tasks import engines
from forebear.weights.native_format import save
from tests.cli.making import image
from tests.tasks.export.test_formats import small

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path / "home"))
    save(small(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


@pytest.mark.long
def test_a_table_for_each_batch_size(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["engines", str(weights), "--batch", "1,3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("batch 1, fp32, measured ")
    assert lines[2].split() == ["engine", "ms", "per", "image", "largest", "difference", "same",
                                "class"]  # fmt: skip
    assert "chosen" in lines[3]
    assert {line.split()[0] for line in lines[3:6]} >= {"torch", "onnxruntime"}
    monkeypatch.setattr(engines, "choose", lambda *_, **__: pytest.fail("measured again"))
    assert main(["engines", str(weights), "--batch", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["batch"] == 3
    assert any(row["engine"] == told["engine"] for row in told["rows"])
    with pytest.raises(pytest.fail.Exception):
        main(["engines", str(weights), "--batch", "3", "--measure"])


@pytest.mark.parametrize("batch", ["0", "a", "1,", "1,9999", "-1"])
def test_batches_that_cannot_be(
    batch: str, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["engines", str(weights), f"--batch={batch}"]) == 2
    assert "expected numbers from 1 to 4096" in capsys.readouterr().err


def test_compile_for_answers_as_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small()
    classify = network.compile_for(batch=2)
    images = [image(kind, 0, 64) for kind in range(3)]
    wanted = network(network.preprocess(images)).softmax(1).detach().numpy()
    for row, guesses in zip(wanted, classify(images, top=3), strict=True):
        assert [name for name, _ in guesses] == ["abc"[at] for at in np.argsort(-row)]
        assert [share for _, share in guesses] == pytest.approx(sorted(row, reverse=True), rel=1e-3)
    assert classify.chosen.startswith(f"engine {classify.engine.name}, fp32")
    assert network.compile_for(engine="torch").engine.name == "torch"
