from __future__ import annotations

import argparse

import pytest
import torch

from forebear.cli import engine_flags
from forebear.engines.engine import EngineRequest


def request(*words: str) -> EngineRequest:
    parser = argparse.ArgumentParser()
    engine_flags.add_arguments(parser)
    return engine_flags.request(parser.parse_args(words), batch=4)


def test_flags_become_a_request() -> None:
    assert request() == EngineRequest(batch=4)
    asked = request("--engine", "openvino", "--precision", "bf16", "--threads", "3")
    assert asked == EngineRequest(engine="openvino", precision="bf16", threads=3, batch=4)


def test_auto_is_a_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert request("--device", "auto").device == "cuda"
    assert request("--device", "cuda:1").device == "cuda:1"
    with pytest.raises(ValueError, match="this machine has 2 of them"):
        request("--device", "cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert request("--device", "auto").device == "cpu"
    with pytest.raises(ValueError, match="no GPU that torch can use"):
        request("--device", "cuda")
