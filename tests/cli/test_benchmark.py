"""forebear benchmark: what is timed, in which words, and what is refused."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path

import pytest
import torch

from forebear.cli.main import main

SMALL = ("paper/resnet20", "--batch", "2", "--steps", "3", "--device", "cpu")


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["benchmark", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_the_lines_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", *SMALL]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    for line, what in zip(lines, ("Forward", "Forward-backward"), strict=False):
        pattern = rf"{what} across 3 steps, \d+\.\d{{3}} \+/- \d+\.\d{{3}} sec / batch"
        assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{6}}: {pattern}", line)
    assert [line.split("  ")[0] for line in lines[4:10]] == [
        "median", "p10", "p90", "images/s", "GFLOP/s", "peak memory",
    ]  # fmt: skip
    assert "2 of 32x32, channels last, fp32" in out
    assert f"torch {torch.__version__}" in out
    assert err == ""  # no terminal


def test_json_holds_every_step(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--no-channels-last", "--precision", "bf16", "--size", "8", "--json")
    assert main(["benchmark", *SMALL, *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["precision"] == "bf16"
    assert found["channels_last"] is False
    assert found["size"] == 8
    assert found["threads"] == torch.get_num_threads()
    assert set(found["versions"]) >= {"forebear", "torch", "python"}
    assert [row["what"] for row in found["timings"]] == ["Forward", "Forward-backward"]
    for row in found["timings"]:
        assert len(row["seconds"]) == 3
        assert row["p10"] <= row["median"] <= row["p90"]
        datetime.fromisoformat(row["finished"])


def test_a_rectangle_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", *SMALL, "--size", "16x32", "--json"]) == 0
    half = json.loads(capsys.readouterr().out)
    assert (half["size"], half["width"]) == (16, 32)
    assert main(["benchmark", *SMALL, "--size", "32", "--json"]) == 0
    square = json.loads(capsys.readouterr().out)
    assert (square["size"], square["width"]) == (32, 32)
    head = 64 * 10  # the multiply-adds of the last layer, which do not depend on the input size
    assert 2 * (half["multiply_adds"] - head) == square["multiply_adds"] - head
    assert main(["benchmark", *SMALL, "--size", "16x32"]) == 0
    assert "2 of 16x32, channels last" in capsys.readouterr().out


def test_rectangles_that_cannot_be_timed_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "size=0: expected a whole number" in refused(capsys, *SMALL, "--size", "16x0")
    few = ("slim/alexnet_v2", "--size", "224x194", "--device", "cpu")
    for more in ((), ("--forward",)):
        assert "image of 224x194 pixels: this is too small" in refused(capsys, *few, *more)
    assert "the side of a square or HEIGHTxWIDTH" in refused(capsys, *SMALL, "--size", "16by32")


def test_a_table_file_is_timed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\nform = "basic"\nimage_size = 8\nclasses = 3\n'
        'root = [{kind = "conv", name = "conv1", channels = 4, kernel = 3}]\n'
        'blocks = [{name = "block1", units = 1, width = 4, channels = 4}]\n'
    )
    words = (str(file), "--dialect", "timm", "--batch", "1", "--steps", "1", "--device", "cpu")
    assert main(["benchmark", *words]) == 0
    assert "dialect timm" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["batch", "steps", "size"])
def test_counts_below_one_are_refused(capsys: pytest.CaptureFixture[str], name: str) -> None:
    err = refused(capsys, "paper/resnet20", f"--{name}", "0")
    assert err == f"forebear: {name}=0: expected a whole number of at least 1. Pass 1 or more.\n"


def test_an_image_that_is_too_small_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    err = refused(capsys, "slim/alexnet_v2", "--size", "194", "--device", "cpu")
    assert "at least 195x195" in err


def test_one_value_a_channel_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("torchvision/resnet18", "--batch", "1", "--size", "32", "--device", "cpu")
    assert "Pass a batch of 2, or larger images" in refused(capsys, *words)


def test_out_of_memory_says_which_batch_to_try(capsys: pytest.CaptureFixture[str]) -> None:
    batch = 10**12  # 11 petabytes, more than an address can name
    err = refused(capsys, "paper/resnet20", "--batch", str(batch), "--device", "cpu")
    assert f"batch={batch}: out of memory on cpu at 32x32 in fp32" in err
    assert f"Try a batch of {batch // 2}." in err
