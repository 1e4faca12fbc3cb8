"""JPEG, PNG and WebP cut at 1, 25, 50 and 99 %, and with one byte flipped."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faults import making
from tests.faults.conftest import Figure
from tests.faults.zygote import Zygote

KINDS = ("JPEG", "PNG", "WEBP")


def noisy(kind: str) -> bytes:
    """An image whose file is long."""
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def checked(
    root: Path, folder: Path, zygote: Zygote
) -> tuple[int | None, dict[str, dict[str, object]]]:
    """The exit code of check, and the line of its manifest for each file."""
    words = ("check", f"folder:{root}", "--manifest", folder / "m.jsonl")
    done = zygote.start(*words, folder=folder / "said").wait()
    lines = map(json.loads, (folder / "m.jsonl").read_text().splitlines())
    return done.code, {Path(str(line["name"])).name: line for line in lines}


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_file_is_found(
    kind: str, place: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    root = making.copied(place / "data", tmp_path / "data")
    content = noisy(kind)
    for percent in (1, 25, 50, 99):
        cut = content[: max(1, len(content) * percent // 100)]
        (root / "down" / f"cut{percent}.{kind.lower()}").write_bytes(cut)
    (root / "down" / f"whole.{kind.lower()}").write_bytes(content)
    code, lines = checked(root, tmp_path, zygote)
    bad = {name for name, line in lines.items() if line["error"] is not None}
    figure.count("cuts found", len(bad), 4)
    assert code == 1
    assert bad == {f"cut{percent}.{kind.lower()}" for percent in (1, 25, 50, 99)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.4, 0.8])
@pytest.mark.long(after=1)
def test_a_flipped_byte_changes_the_manifest_and_ends_a_run_that_goes_on(
    kind: str, part: float, place: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    root = making.copied(place / "data", tmp_path / "data")
    file = root / "down" / f"one.{kind.lower()}"
    content = bytearray(noisy(kind))
    file.write_bytes(content)
    words = making.train(place, tmp_path / "run", data=f"folder:{root}")
    dies = {"at": {"step 20": "die"}}
    zygote.start(*words, folder=tmp_path / "said-run", faults=dies).wait()
    _, before = checked(root, tmp_path, zygote)
    content[int(len(content) * part)] ^= 1
    making.same_stat(file, bytes(content))
    done = zygote.start(*making.resume(tmp_path / "run"), folder=tmp_path / "again").wait()
    done.failed("the images of", "have changed since the run began", "as many as before")
    (tmp_path / "later").mkdir()
    _, after = checked(root, tmp_path / "later", zygote)
    assert before[file.name]["sha256"] != after[file.name]["sha256"]
    figure.count("flips noticed", 1)
