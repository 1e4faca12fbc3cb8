from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import forebear
from forebear.cli.main import main
from forebear.hardware import FORCE, processor
from forebear.tasks import doctor


def test_doctor_names_versions_processor_kernels_and_extras(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FORCE, raising=False)
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"forebear {forebear.__version__}" in said
    assert f"torch {torch.__version__}" in said
    assert processor().name in said
    assert re.search(rf"^level +{processor().kind}$", said, re.MULTILINE)
    assert "max-pool" in said
    assert "matplotlib " in said
    assert "none that torch can use" in said or torch.cuda.is_available()


def test_doctor_gives_the_same_as_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / "cache").mkdir(parents=True)
    (home / "cache" / "pixels").write_bytes(bytes(3000))
    (home / "cache" / "link").symlink_to("/")  # not followed
    monkeypatch.setenv("FOREBEAR_HOME", str(home))
    monkeypatch.setenv(FORCE, "none")
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["forebear"] == forebear.__version__
    assert found["processor"]["level"] == "none"
    assert found["precision"] == "fp32"
    assert {kernel["why_not"] for kernel in found["kernels"]} == {"", "FOREBEAR_CPU=none"}
    assert found["caches"] == [{"path": str(home / "cache"), "size": 3001}]
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "none (set by FOREBEAR_CPU; the CPU supports " in said
    assert "2.9 KiB" in said


def test_doctor_says_how_to_install_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["torch>=2", "no-such-package>=1; extra == 'data'", "pyarrow; extra == 'data'"]
    monkeypatch.setattr(metadata, "requires", lambda _: wanted)
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "no-such-package missing, pyarrow " in said
    assert "run pip install 'forebear[data]'" in said


def test_doctor_names_the_build_of_torch_which_its_metadata_may_leave_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.13.0+cu130")
    assert main(["doctor"]) == 0
    assert "torch 2.13.0+cu130" in capsys.readouterr().out


def test_doctor_lists_gpus(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = SimpleNamespace(name="H100", total_memory=80 << 30)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    monkeypatch.setattr(doctor, "has_bf16", lambda device: device.type == "cuda")
    assert main(["doctor"]) == 0
    assert "H100, 80.0 GiB, bf16" in capsys.readouterr().out
