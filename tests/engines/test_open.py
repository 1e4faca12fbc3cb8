from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import forebear
from forebear.engines import open as opening
from forebear.engines.engine import EngineRequest
from forebear.engines.make import EngineMaker
from forebear.engines.onnx_model import write_onnx
from forebear.engines.open import check_request, open_classifier
from forebear.hardware import Processor
from forebear.tasks.export.export import export
from forebear.weights.native_format import save
from tests.cli.making import image
from tests.network.making import FITTED
from tests.tasks.export.test_formats import small

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CHILD = """
import sys
from forebear.engines.engine import EngineRequest
from forebear.engines.open import open_classifier
classifier = open_classifier(sys.argv[1], EngineRequest(engine=sys.argv[2]))
import numpy as np
pixels = np.full((1, 64, 64, 3), 90, np.uint8)
print(classifier.engine.name, "torch" in sys.modules, classifier.guesses(classifier.logits(pixels)))
"""


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path / "home"))
    save(small(), tmp_path / "w.safetensors", classes=("a", "b", "c"))
    return tmp_path / "w.safetensors"


def child(*words: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, words)], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_choice_is_measured_once_and_kept(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    first = open_classifier(weights, say=lines.append)
    assert len(lines) == 1
    assert lines[0] == first.chosen
    assert lines[0].startswith(f"engine {first.engine.name}, fp32: ")
    monkeypatch.setattr(opening, "choose", lambda *_, **__: pytest.fail("measured again"))
    if first.engine.name != "torch":
        again = open_classifier(weights)
        assert again.chosen == first.chosen
        assert again.classes == ("a", "b", "c")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.long
def test_a_kept_graph_needs_no_torch(engine: str, weights: Path) -> None:
    pytest.importorskip(engine)
    first = child(weights, engine)
    again = child(weights, engine)
    assert first.startswith(f"{engine} True")
    assert again.startswith(f"{engine} False")
    assert first.split("[[")[1] == again.split("[[")[1]


@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_an_exported_file_needs_no_torch(ending: str, weights: Path) -> None:
    engine, to = {".onnx": ("onnxruntime", "onnx"), ".xml": ("openvino", "openvino")}[ending]
    pytest.importorskip(engine)
    path = weights.with_name(f"m{ending}")
    export(small(), to, path, unchecked=True)
    assert child(path, engine).startswith(f"{engine} False")
    assert child(path, "auto").startswith(f"{engine} False")


def test_every_engine_answers_alike(weights: Path) -> None:
    images = [image(kind, 0, 64) for kind in range(3)]
    answers = []
    for name in ("torch", "onnxruntime"):
        classifier = open_classifier(weights, EngineRequest(engine=name))
        assert classifier.engine.name == name
        answers.append(classifier(images))
    for ours, theirs in zip(*answers, strict=True):
        assert [name for name, _ in ours] == [name for name, _ in theirs]
        assert dict(ours) == pytest.approx(dict(theirs), rel=1e-4)


def test_a_damaged_graph_of_the_cache_is_written_again(weights: Path) -> None:
    request = EngineRequest(engine="onnxruntime")
    wanted = open_classifier(weights, request)([image(0, 0, 64)])
    graph = next(weights.parent.glob("home/engines/*/fp32.onnx"))
    whole = graph.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[-2000:]):
        graph.write_bytes(damaged)
        assert open_classifier(weights, request)([image(0, 0, 64)]) == wanted
        assert graph.read_bytes() == whole


def test_changed_weights_get_a_new_graph(weights: Path) -> None:
    request = EngineRequest(engine="onnxruntime")
    before = open_classifier(weights, request)([image(0, 0, 64)])
    network = small()
    network.get_parameter("logits.bias").data[0] += 3
    save(network, weights, classes=("a", "b", "c"))
    after = open_classifier(weights, request)([image(0, 0, 64)])
    assert after != before


def test_a_new_calibration_reaches_the_kept_graph_and_the_exported_file(weights: Path) -> None:
    request, pictures = EngineRequest(engine="onnxruntime"), [image(0, 0, 64)]
    plain = open_classifier(weights, request)
    for temperature in (2.0, 3.0):
        network = forebear.load(weights)
        fitted = replace(FITTED, temperature=temperature)
        network.card = replace(network.card, calibration=fitted)
        save(network, weights)
        wanted = open_classifier(weights, EngineRequest(engine="torch"))(pictures)
        export(network, "onnx", weights.with_name("m.onnx"), replace=True, unchecked=True)
        first, again = open_classifier(weights, request), open_classifier(weights, request)
        for found in (first, again, open_classifier(weights.with_name("m.onnx"))):
            assert found.calibration == fitted
            assert dict(found(pictures)[0]) == pytest.approx(dict(wanted[0]), rel=1e-4)
            assert found(pictures) != plain(pictures)


def test_a_cache_that_cannot_be_written(weights: Path) -> None:
    (weights.parent / "home").write_text("a file")
    found = open_classifier(weights, EngineRequest(engine="onnxruntime"))
    assert found.engine.name == "onnxruntime"
    assert len(found([image(0, 0, 64)])[0]) == 3


def test_an_exported_file(weights: Path) -> None:
    for inside in (False, True):
        network = small()
        write_onnx(network, weights.with_name("m.onnx"), pixels=inside)
        found = open_classifier(weights.with_name("m.onnx"))
        wanted = open_classifier(weights, EngineRequest(engine="torch"))
        assert found.engine.name == "onnxruntime"
        ours, theirs = (dict(one([image(1, 0, 64)])[0]) for one in (found, wanted))
        assert ours == pytest.approx(theirs, rel=1e-4)
    with pytest.raises(ValueError, match="engine=torch: .* is an exported graph"):
        open_classifier(weights.with_name("m.onnx"), EngineRequest(engine="torch"))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (EngineRequest(batch=0), "batch=0, .*expected 1 or more"),
        (EngineRequest(engine="onnxruntime", precision="bf16"), "computes in fp32, int8"),
        (EngineRequest(precision="bf16"), "has no bfloat16 arithmetic"),
        (EngineRequest(engine="openvino", device="cuda"), "openvino runs on the CPU"),
        (EngineRequest(precision="int8", device="cuda"), "int8 graphs run on the CPU"),
        (EngineRequest(device="cuda:1"), "device=cuda:1: this machine has no GPU"),
    ],
)
def test_requests_that_cannot_be(
    request_: EngineRequest, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chip = Processor(
        name="Zen 3", architecture="x86_64", level="x86-64-v3", amx=False, cores=2, memory=0
    )
    monkeypatch.setattr(opening, "processor", lambda: chip)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        check_request(request_)


def test_a_gpu_takes_pytorch_without_a_measurement(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = []

    class OnCpu(EngineMaker):
        """Makes the engines of a GPU on the CPU."""

        def __init__(self, *words: Any) -> None:
            devices.append(words[4])
            super().__init__(*words[:4])

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(opening, "EngineMaker", OnCpu)
    found = open_classifier(weights, EngineRequest(device="cuda:0", precision="bf16"))
    assert (found.engine.name, found.engine.precision, found.chosen) == ("torch", "bf16", "")
    assert devices == ["cuda:0"]
    write_onnx(small(), weights.with_name("m.onnx"))
    with pytest.raises(ValueError, match="device=cuda:0: .* is an exported graph"):
        open_classifier(weights.with_name("m.onnx"), EngineRequest(device="cuda:0"))


def test_int8_without_a_quantised_graph(weights: Path) -> None:
    with pytest.raises(ValueError, match="Run forebear quantize"):
        open_classifier(weights, EngineRequest(precision="int8"))


def test_a_missing_library_names_its_extra(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from forebear.engines import engine

    monkeypatch.setitem(engine.LIBRARIES, "openvino", ("openvino", "no_such_module"))
    with pytest.raises(ValueError, match=r"pip install 'forebear\[openvino\]'"):
        open_classifier(weights, EngineRequest(engine="openvino"))


def test_features_have_no_classes(weights: Path) -> None:

    headless = forebear.create("paper/resnet20", num_classes=None)
    save(headless, weights)
    with pytest.raises(ValueError, match="no classifier or no global pool"):
        open_classifier(weights)
