from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from forebear.cli.main import main
from forebear.cli.speed_table import as_dict, draw, lines
from forebear.hardware import processor
from forebear.tasks import compare_speed
from forebear.tasks.compare_speed import Comparison, Contender

FOUND = Comparison(
    network="slim/x", batch=4, size=8, width=12, what="forward", multiply_adds=10**9, peak=1e11,
    device="cpu", device_name="a processor", precision="fp32",
    contenders=(
        Contender(name="forebear torch", seconds=(0.1,) * 5, warm_up=3, memory=2**20),
        Contender(name="timm", seconds=(0.2,) * 5, warm_up=4, memory=0),
    ),
    blocks=(("root", 0.25), ("block1", 0.75)),
)  # fmt: skip


def test_lines() -> None:
    found = list(lines(FOUND))
    assert found[0].startswith("slim/x, forward, batch 4, 8 x 12 pixels, fp32 on a processor, ")
    assert "1.000 G multiply-adds per image, peak of a matrix product 200 GFLOP/s" in found[0]
    assert "  growth of process peak memory  " in found[1]
    assert found[2].split() == ["forebear", "torch", "25", "25", "25", "1.000", "1.000", "to",
                                "1.000", "80", "40%", "1", "MiB", "3"]  # fmt: skip
    assert found[3].split()[1:5] == ["50", "50", "50", "2.000"]
    assert found[4] == "time of the parts, eager: root 25%, block1 75%"


def test_lines_of_a_gpu() -> None:
    found = list(lines(replace(FOUND, device="cuda", device_name="H100")))
    assert "fp32 without TF32 on H100, " in found[0]
    assert "  growth of GPU peak memory  " in found[1]
    assert "bf16 on H100, " in next(lines(replace(FOUND, device_name="H100", precision="bf16")))


def test_data() -> None:
    row = json.loads(json.dumps(as_dict(FOUND)))["contenders"][1]
    assert as_dict(FOUND)["precision"] == "fp32"
    assert (row["median"], row["ratio"], row["of_peak"]) == (0.2, 2.0, 0.2)


def test_a_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw([FOUND, FOUND], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no NAME: expected a network"),
        (["paper/resnet20", "--preset", "slim"], "--preset slim and NAME: expected one of them"),
        (["paper/resnet20", "--engine", "gpu"], "--engine gpu: expected all, or some of torch"),
        (["paper/resnet20", "--against", "fastai"], "--against fastai: expected all"),
        (["paper/resnet20", "--batch", "x"], "--batch x: expected whole numbers"),
        (["paper/resnet20", "--batch", "1,0"], "batch=0: expected a whole number"),
        (["paper/resnet20", "--forward", "--precision", "fp8"], "precision='fp8': expected auto"),
        (["paper/resnet20", "--forward", "--device", "tpu"], "device='tpu' is no device"),
        (["mine.toml", "--forward", "--dialect", "slim"], "mine.toml: a comparison does not take"),
        (["resnet20", "mine.json"], "mine.json: a comparison does not take table files"),
        (["paper/resnet20", "--batch", "1,2", "--steps", "3"], "--steps 3: a comparison"),
        (["paper/resnet20", "--backward", "--dialect", "slim"], "--dialect slim: a comparison"),
        (["paper/resnet20", "--forward", "--no-channels-last"], "--no-channels-last: a comparison"),
    ],
)
def test_arguments_that_cannot_be(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_verb_compares(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_speed, "ROUNDS", 5)
    words = "resnet20 --forward --batch 1 --json --device cpu --precision auto --against keras"
    assert main(["benchmark", *words.split()]) == 0
    out, err = capsys.readouterr()
    (found,) = json.loads(out)
    assert found["network"] == "paper/resnet20"
    assert (found["device"], found["precision"]) == ("cpu", "bf16" if processor().bf16 else "fp32")
    assert err.startswith("forebear: keras left out: paper/resnet20 has no equal network")
    assert "memory" in found["contenders"][0]
    assert found["contenders"][0]["name"] == "forebear torch"
    assert found["contenders"][0]["median"] > 0
