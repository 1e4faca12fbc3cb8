"""forebear diff: what it prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forebear.cli.main import main

TINY = """
name = "tiny"
form = "basic"
classes = 10
image_size = 32
root = [{kind = "conv", name = "conv1", channels = 16, kernel = 3}]
blocks = [{name = "block1", units = 3, width = 16, channels = 16}]
"""


def compared(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["diff", *words]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["diff", *words]) == 2
    return capsys.readouterr().err


def test_slim_and_keras_differ_in_pool_and_epsilon(capsys: pytest.CaptureFixture[str]) -> None:
    text = compared(capsys, "slim/resnet_v1_50", "keras/ResNet50")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "epsilon 1e-5 1.001e-5" in lines
    assert "table: no difference" in lines
    assert "trainable parameters 25,557,032 25,583,592 +26,560 +0.1 %" in lines
    assert "multiply-adds, block1 542.704 M 667.943 M +125.239 M +23.1 %" in lines
    assert "multiply-adds 3.482 G 3.858 G +0.376 G +10.8 %" in lines
    assert lines[-3:] == [
        "not the same function, because",
        "- the windows or the padding of their pools differ",
        "- epsilon is 1e-5 and 1.001e-5",
    ]


def test_one_function_in_two_dialects(capsys: pytest.CaptureFixture[str]) -> None:
    text = compared(capsys, "torchvision/resnet18", "timm/resnet18")
    assert text.endswith("same function in evaluation mode, given the same weights\n")
    assert "bicubic" in text


def test_a_network_and_itself(capsys: pytest.CaptureFixture[str]) -> None:
    name = "paper/resnet110"
    assert compared(capsys, name, name) == f"{name} and {name}: identical\n"


def test_counted_at_another_size(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("slim/resnet_v1_50", "keras/ResNet50", "--image-size", "64", "--json")
    found = json.loads(compared(capsys, *words))
    assert found["image_sizes"] == [64, 64]
    assert found["first"] == "slim/resnet_v1_50"
    assert found["verdict"]["answer"] == "different"
    assert sum(cost["second"] for cost in found["costs"]) == found["multiply_adds"][1]


def test_a_table_file_beside_a_published_network(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    text = compared(capsys, str(file), "paper/resnet20", "--dialect", "paper-cifar")
    assert "dialect: no difference" in text
    assert "3 units, 64 channels" in text
    assert "Expected a dialect" in refused(capsys, str(file), "paper/resnet20")


def test_mistakes_say_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("paper/resnet20", "paper/resnet32")
    assert "Remove --dialect" in refused(capsys, *names, "--dialect", "timm")
    assert "too small" in refused(capsys, *names, "--image-size", "0")
    assert "Did you mean" in refused(capsys, "paper/resnet21", "paper/resnet32")
