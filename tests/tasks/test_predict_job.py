from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from forebear.engines.classifier import classifier_of
from forebear.engines.torch_engine import TorchEngine
from forebear.tasks.predict_job import answers, shard_of
from forebear.weights.native_format import save
from tests.cli.making import image
from tests.network.making import FITTED
from tests.tasks.export.test_formats import small


def photographs(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{number:03}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(image(number % 3, number, 48)).save(path)
    return paths


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_answers_come_in_order_whatever_the_batch(batch: int, tmp_path: Path) -> None:
    paths = photographs(tmp_path / "in", 11)
    paths[4].write_text("no image")
    network = small()
    classifier = classifier_of(TorchEngine(network), network)
    found = [one for some in answers(classifier, paths, top=2, batch=batch) for one in some]
    assert [one.path for one in found] == [str(path) for path in paths]
    assert [bool(one.error) for one in found] == [number == 4 for number in range(11)]
    for one, path in zip(found, paths, strict=True):
        if not one.error:
            wanted = classifier([path], top=2)[0]
            assert [name for name, _ in one.guesses] == [name for name, _ in wanted]
            assert [share for _, share in one.guesses] == pytest.approx(
                [share for _, share in wanted], rel=1e-5
            )


def test_only_some_images_are_decoded_ahead(tmp_path: Path) -> None:
    """A million paths take no memory for a million images."""
    network = small()
    classifier = classifier_of(TorchEngine(network), network)
    path = photographs(tmp_path / "in", 1)[0]
    asked = 0

    def endless() -> Iterator[Path]:
        nonlocal asked
        while True:
            asked += 1
            yield path

    found = answers(classifier, endless(), batch=3)
    next(found)
    assert asked <= 3 * 5
    found.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [0, 1, 7, 100])
@pytest.mark.parametrize("parts", [1, 3, 8])
def test_shards_concatenate_to_the_whole(count: int, parts: int) -> None:
    images = [Path(str(number)) for number in range(count)]
    found = [shard_of(images, f"{part}/{parts}") for part in range(1, parts + 1)]
    assert [image for part in found for image in part] == images
    assert max(map(len, found)) - min(map(len, found)) <= 1


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0", "1/2/3", ""])
def test_a_shard_that_cannot_be(shard: str) -> None:
    with pytest.raises(ValueError, match="expected I/N"):
        shard_of([], shard)


@pytest.mark.long
def test_a_killed_job_answers_each_image_once(tmp_path: Path) -> None:
    photographs(tmp_path / "in", 60)
    save(small(), tmp_path / "w.safetensors", classes=("a", "b", "c"))
    out = tmp_path / "r.jsonl"
    words = [
        sys.executable, "-m", "forebear", "predict", str(tmp_path / "w.safetensors"),
        str(tmp_path / "in"), "--out", str(out), "--engine", "torch", "--batch", "1",
    ]  # fmt: skip
    environment = os.environ | {"FOREBEAR_HOME": str(tmp_path / "home")}
    child = subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not out.exists() or out.stat().st_size < 500):
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = out.read_bytes()
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    lines = out.read_bytes()
    assert lines.startswith(before[: before.rfind(b"\n") + 1])
    rows = [json.loads(line)["path"] for line in lines.splitlines()]
    assert rows == [str(tmp_path / "in" / f"{number:03}.png") for number in range(60)]
    assert "60 images" in done.stderr


def test_answers_say_which_images_are_unknown_if_that_is_asked(tmp_path: Path) -> None:
    paths = photographs(tmp_path / "in", 6)
    network = small()
    classifier = classifier_of(TorchEngine(network), network)
    best = sorted(row[0][1] for row in classifier(paths, top=1))
    middle = (best[2] + best[3]) / 2
    fitted = replace(FITTED, temperature=1.0, threshold=middle)
    classifier = replace(classifier, calibration=fitted)
    (asked,) = answers(classifier, paths, batch=6, unknown=True)
    (plain,) = answers(classifier, paths, batch=6)
    assert [one.unknown for one in asked] == [one.guesses[0][1] < middle for one in asked]
    assert sum(one.unknown for one in asked) == 3
    assert plain == [replace(one, unknown=False) for one in asked]
