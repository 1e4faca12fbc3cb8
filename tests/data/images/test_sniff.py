from __future__ import annotations

import pytest
from PIL import Image

from forebear.data.images import sniff
from forebear.data.images.sniff import START, image_format, what_is
from tests.data.making import encoded, noise

KINDS = ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP", "AVIF", "JPEG2000"]


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_known_by_their_content(kind: str) -> None:
    image = Image.new("1", (2, 2)) if kind == "PPM" else noise(0, 64, 64)
    assert image_format(encoded(image, kind)[:START]) == kind


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"%PDF-1.7", "PDF"),
        (b"\n <!DOCTYPE html>", "HTML page"),
        (b"<svg xmlns=", "SVG or XML"),
        (b"\0\0\0\x20ftypisom", "video"),
        (b"II*\0", "TIFF"),
        (b"version https://git-lfs.github.com", "git-lfs pointer in place of the file"),
        (b"words", "unknown"),
        (b"", "unknown"),
    ],
)
def test_other_files_are_named(start: bytes, said: str) -> None:
    assert what_is(start) == said


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"hevc"])
@pytest.mark.parametrize("there", [False, True])
def test_heic_is_an_image_only_where_it_can_be_read(
    brand: bytes, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sniff, "has_heif", lambda: there)
    sniff._reads.cache_clear()
    start = b"\0\0\0\x18ftyp" + brand + bytes(20)
    assert image_format(start) == ("HEIC" if there else None)
    assert what_is(start) == "HEIC"
    sniff._reads.cache_clear()
