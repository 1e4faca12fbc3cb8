"""Animated GIF, PNG and WebP, and TIFF with several pages: the first frame, and their number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.faults import making
from tests.faults.conftest import Figure
from tests.faults.zygote import Zygote


@pytest.mark.parametrize("name", ["x.gif", "x.png", "x.webp", "x.tiff"])
def test_the_first_frame_is_taken_and_all_are_counted(
    name: str, place: Path, trained: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    root = making.copied(place / "data", tmp_path / "data")
    frames = [Image.new("RGB", (32, 32), (at * 60, 255 - at * 60, 90)) for at in range(3)]
    path = root / "down" / name
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    frames[0].save(tmp_path / "first.png")
    words = ("check", f"folder:{root}", "--manifest", tmp_path / "m.jsonl")
    done = zygote.start(*words, folder=tmp_path / "said").wait()
    done.succeeded()
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert [line["frames"] for line in lines if Path(line["name"]).name == name] == [3]
    assert "1 animated or paged" in done.stdout
    images = (path, tmp_path / "first.png")
    done = zygote.start("predict", trained, *images, folder=tmp_path / "predicted").wait()
    first, second = (line.partition(": ")[2] for line in done.stdout.splitlines())
    figure.count("with the first frame", first == second)
    assert first == second
