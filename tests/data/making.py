"""Small images and files for the tests of this folder."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from forebear.data.augment.config import Augment

SHARED = Path(__file__).parents[2].parent / "shared"  # real data, which not every machine has


def shared(name: str) -> Path:
    """A path in the folder of real data; the test is skipped where there is none."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"no {name} next to the repository")
    return path


def noise(seed: int, width: int = 12, height: int = 8) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def png(
    width: int, height: int, *, bits: int, colour: int, rows: bytes, trns: bytes = b""
) -> bytes:
    """A PNG spelled out, for the headers that Pillow does not write. `rows` lacks filter bytes."""
    length = len(rows) // height or 1
    lines = b"".join(b"\0" + rows[at : at + length] for at in range(0, len(rows), length))
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)),
            _chunk(b"tRNS", trns) if trns else b"",
            _chunk(b"IDAT", zlib.compress(lines)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def decided(**given: Any) -> Augment:
    """An augmentation in which nothing is left to the data: no shift, mirrored at random."""
    return Augment(**{"shift": 0, "mirror": "random", **given})
