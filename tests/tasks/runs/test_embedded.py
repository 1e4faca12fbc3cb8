from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forebear.tasks.runs.embedded import image_uri, is_image_uri, thumbnail_uri


def opened(uri: str) -> Image.Image:
    assert is_image_uri(uri)
    return Image.open(BytesIO(base64.b64decode(uri.partition(",")[2])))


def noise(path: Path, side: int) -> Path:
    values = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def test_a_small_png_is_embedded_unchanged(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.png", 20)
    for drawing in (True, False):
        uri = image_uri(path, drawing=drawing)
        assert base64.b64decode(uri.removeprefix("data:image/png;base64,")) == path.read_bytes()


def test_large_photographs_become_jpegs_and_large_drawings_get_a_palette(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.png", 400)
    photograph, drawing = (opened(image_uri(path, drawing=one)) for one in (False, True))
    assert (photograph.format, photograph.size) == ("JPEG", (400, 400))
    assert (drawing.format, drawing.mode) == ("PNG", "P")
    assert len(image_uri(path, drawing=False)) < path.stat().st_size


@pytest.mark.parametrize("content", [b"", b"<svg>", b"\x89PNG\r\n\x1a\n" + b"x" * 200_000])
def test_a_damaged_image_is_left_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert image_uri(tmp_path / "a.png", drawing=True) == ""
    assert image_uri(tmp_path / "missing.png", drawing=False) == ""


def test_pixels_of_a_small_thumbnail_stay_squares_and_a_large_one_shrinks() -> None:
    small = np.arange(64, dtype=np.uint8).reshape(8, 8, 1) * 4
    image = opened(thumbnail_uri(small))
    assert (image.format, image.size) == ("PNG", (160, 160))
    assert np.array_equal(np.asarray(image)[::20, ::20, 0], small[:, :, 0])
    wide = opened(thumbnail_uri(np.zeros((100, 400, 3), np.uint8)))
    assert (wide.format, wide.size) == ("JPEG", (160, 40))


@pytest.mark.parametrize(
    "text",
    ["", None, "javascript:alert(1)", "data:image/svg+xml;base64,AA", 'data:image/png;base64,A"'],
)
def test_only_png_and_jpeg_are_image_uris(text: object) -> None:
    assert not is_image_uri(text)
