"""Tells from its first bytes what a file is, without decoding it."""

from __future__ import annotations

import importlib.util
from functools import cache

from PIL import features

START = 64  # bytes that are enough

_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

# Format by first bytes. "?" stands for any byte.
_FORMATS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"RIFF????WEBP", "WEBP"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"????ftypavif", "AVIF"),
    (b"????ftypavis", "AVIF"),
    *((b"????ftyp" + brand, "HEIC") for brand in _HEIF),
)
# Other files that people have among their images
_STRANGERS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "PDF"),
    (b"8BPS", "PSD"),
    (b"PK\3\4", "zip archive"),
    (b"\x1f\x8b", "gzip archive"),
    (b"Rar!", "rar archive"),
    (b"7z\xbc\xaf", "7z archive"),
    (b"SQLite format 3", "SQLite database"),
    (b"version https://git-lfs", "git-lfs pointer in place of the file"),
    (b"\x93NUMPY", "NumPy array"),
    (b"\x89HDF", "HDF5 file"),
    (b"????ftypqt", "video"),
    (b"????ftypmp4", "video"),
    (b"????ftypisom", "video"),
    (b"\x1aE\xdf\xa3", "video"),
    (b"RIFF????AVI ", "video"),
    (b"FUJIFILMCCD-RAW", "raw photograph"),
    (b"IIRO", "raw photograph"),
    (b"IIU\0", "raw photograph"),
    (b"????ftypcrx", "raw photograph"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\1\0", "icon"),
    (b"v/1\1", "OpenEXR image"),
)
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body")
_NEEDS = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}  # a feature of Pillow


def image_format(start: bytes) -> str | None:
    """Returns the format of an image that this installation reads; None for any other file.

    Args:
        start: The first `START` bytes of the file, or all of a shorter one.
    """
    found = _match(start, _FORMATS)
    if found is None and start[:1] == b"P" and start[1:2] in b"123456f" and start[2:3].isspace():
        found = "PPM"
    return found if found is not None and _reads(found) else None


def what_is(start: bytes) -> str:
    """Returns what a file is that is no image: "PDF", "HTML page", or "unknown".

    An image of a format that this installation cannot read is named by its format: "HEIC".
    """
    known = _match(start, _FORMATS) or _match(start, _STRANGERS)
    if known is not None:
        return known
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(_HTML):
        return "HTML page"
    if text.startswith((b"<svg", b"<?xml")):
        return "SVG or XML"
    return "unknown"


def has_heif() -> bool:
    """Whether pillow-heif is installed, which reads HEIC."""
    return importlib.util.find_spec("pillow_heif") is not None


@cache
def _reads(name: str) -> bool:
    if name == "HEIC":
        return has_heif()
    return name not in _NEEDS or bool(features.check(_NEEDS[name]))


def _match(start: bytes, table: tuple[tuple[bytes, str], ...]) -> str | None:
    return next((name for pattern, name in table if _fits(start, pattern)), None)


def _fits(start: bytes, pattern: bytes) -> bool:
    if b"?" not in pattern:
        return start.startswith(pattern)
    return len(start) >= len(pattern) and all(
        wanted in (ord("?"), found) for wanted, found in zip(pattern, start, strict=False)
    )
