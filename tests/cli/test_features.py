"""forebear features: a row per image, in a file that continues where it stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import forebear
from forebear.cli.main import main
from tests.cli.making import CLASSES, folder
from tests.network.making import make
from tests.tasks.test_predict_job import photographs


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    forebear.save(make("paper/resnet20", num_classes=3), path, classes=CLASSES)
    return path


FOREIGN = Path(__file__).parents[1] / "weights" / "goldens" / "families" / "basic.dynamo.onnx"


def test_a_graph_of_another_program_is_a_checkpoint(tmp_path: Path) -> None:
    root, out = folder(tmp_path / "in", 1), tmp_path / "f.npy"
    assert main(["features", str(FOREIGN), str(root), "--out", str(out)]) == 0
    features = forebear.load(FOREIGN).get_submodule("logits").get_parameter("weight").shape[1]
    assert np.load(out).shape == (3, features)


def test_a_folder_into_a_file(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder(tmp_path / "in", 3)
    broken = root / CLASSES[0] / "1.png"
    broken.write_text("broken")
    out = tmp_path / "f.npy"
    words = ["features", str(saved), str(root), "--out", str(out)]
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    first, second, last = told.err.splitlines()
    assert first.startswith(f"forebear: {broken}: not an image")
    assert second.startswith(f"forebear: {out}: [9, 64] at pool, ")
    assert last == "forebear: 1 of 9 images could not be read"
    rows = np.load(out, mmap_mode="r")
    assert rows.dtype == np.float32
    assert np.isnan(rows).all(1).tolist() == [False, True, *[False] * 7]
    paths = (tmp_path / "f.npy.paths.txt").read_text().splitlines()
    assert paths == [str(root / kind / f"{n}.png") for kind in CLASSES for n in range(3)]
    assert main([*words, "--bad", "skip"]) == 0
    assert "9 of 9 images finished" in capsys.readouterr().err
    assert main([*words, "--maps"]) == 2
    assert "the result of another job (--maps differ)" in capsys.readouterr().err
    assert main([*words, "--replace", "--end-point", "block2", "--maps", "--bad", "fail"]) == 2
    assert capsys.readouterr().err.startswith(f"forebear: {broken}: not an image")
    broken.unlink()
    assert main([*words, "--replace", "--end-point", "block2", "--maps", "--shard", "1/2"]) == 0
    assert np.load(out).shape == (4, 32, 16, 16)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x.png", "--out", "f.txt"], "Expected one of .npy, .parquet"),
        (["x.png", "--out", "f.npy", "--batch", "0"], "batch=0: expected 1 or more"),
        (["x.png", "--out", "f.npy", "--end-point", "blok2"], "Did you mean block2"),
        (["x.png", "--out", "f.npy", "--shard", "1/2"], "no images: expected at least one"),
        (["--out", "f.npy"], "no IMAGE: expected at least one image"),
        (["x.png"], "--out"),
    ],
)
def test_arguments_that_cannot_be(
    words: list[str], message: str, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["features", str(saved), *words]) == 2
    assert message in capsys.readouterr().err
    assert not Path(words[-1]).exists()


def test_an_exported_graph_has_no_end_points(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", "net.onnx", "x.png", "--out", "f.npy"]) == 2
    assert "net.onnx: an exported graph has no end points" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_job_continues_to_the_same_rows(saved: Path, tmp_path: Path) -> None:
    photographs(tmp_path / "in", 60)
    words = [sys.executable, "-m", "forebear", "features", str(saved), str(tmp_path / "in")]
    words += ["--batch", "1", "--out"]
    environment = os.environ | {"FOREBEAR_HOME": str(tmp_path / "home")}
    note = tmp_path / "f.npy.job.json"
    with subprocess.Popen(
        [*words, str(tmp_path / "f.npy")], stderr=subprocess.DEVNULL, env=environment
    ) as child:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if note.exists() and '"done": 0' not in note.read_text():
                break
            time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
    done = subprocess.run(
        [*words, str(tmp_path / "f.npy")],
        capture_output=True, text=True, env=environment, check=True,
    )  # fmt: skip
    assert "of 60 images finished" in done.stderr
    assert main([*words[3:], str(tmp_path / "whole.npy")]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "f.npy"), np.load(tmp_path / "whole.npy"))
