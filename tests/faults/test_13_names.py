"""Files named as another format, in upper case, or without an ending: read by their content."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.faults import making
from tests.faults.conftest import Figure
from tests.faults.zygote import Zygote

NAMES = {
    "a.JPEG": "PNG",
    "b.png": "WEBP",
    "C.PNG": "PNG",
    "d.JpEg": "JPEG",
    "no ending": "JPEG",
    "IMG_1.orig": "PNG",
}


def test_each_is_decoded_and_said(
    place: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    root = making.copied(place / "data", tmp_path / "data")
    for number, (name, kind) in enumerate(NAMES.items()):
        stream = io.BytesIO()
        Image.new("RGB", (20, 20), (number * 9, 30, 70)).save(stream, kind)
        (root / "down" / name).write_bytes(stream.getvalue())
    words = ("check", f"folder:{root}", "--manifest", tmp_path / "m.jsonl")
    done = zygote.start(*words, folder=tmp_path / "said").wait()
    done.succeeded()
    lines = map(json.loads, (tmp_path / "m.jsonl").read_text().splitlines())
    found = {Path(line["name"]).name: line["format"] for line in lines}
    right = sum(found.get(name) == kind for name, kind in NAMES.items())
    figure.count("files decoded by content", right, len(NAMES))
    assert right == len(NAMES)
    assert "2 named as another format" in done.stdout


@pytest.mark.parametrize("name", ["x.heic", "x"])
def test_a_format_that_cannot_be_read_is_counted_by_its_name(
    name: str, place: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    root = making.copied(place / "data", tmp_path / "data")
    (root / "down" / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    done = zygote.start("check", f"folder:{root}", folder=tmp_path / "said").wait()
    if "1 file skipped: 1 HEIC" not in done.stdout:  # pillow-heif is installed
        assert f"{name}: " in done.stdout
    figure.count("as specified", 1)
