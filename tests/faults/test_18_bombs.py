"""Huge headers, text that swells, and images of one pixel, row or column: bounded memory."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tests.data.images.test_large import peak, save
from tests.data.making import png
from tests.faults.conftest import Figure
from tests.faults.zygote import Zygote

MEMORY = 9 * 2**28  # bytes of address space, beyond what torch takes


def chunk(name: bytes, content: bytes) -> bytes:
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def with_text(size: int) -> bytes:
    """A PNG whose compressed text unpacks to `size` bytes."""
    plain = png(2, 2, bits=8, colour=2, rows=bytes(12))
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(size), 9))
    return plain[:33] + text + plain[33:]


BOMBS = {
    "60000 x 60000": png(60000, 60000, bits=8, colour=2, rows=b"\0"),
    "14000 x 14000": png(14000, 14000, bits=8, colour=2, rows=b"\0"),
    "swelling text": with_text(200_000_000),
}


@pytest.mark.parametrize("what", BOMBS)
@pytest.mark.parametrize("verb", ["predict", "check"])
def test_a_bomb_is_refused_from_its_header(
    what: str, verb: str, trained: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    for kind in ("a", "b"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (9, 9), (number, 0, 0)).save(
                tmp_path / "data" / kind / f"{number}.png"
            )
    bomb = tmp_path / "data" / "a" / "bomb.png"
    bomb.write_bytes(BOMBS[what])
    words: tuple[object, ...] = ("predict", trained, bomb)
    if verb == "check":
        words = ("check", f"folder:{tmp_path / 'data'}")
    done = zygote.start(*words, folder=tmp_path / "said", memory_bytes=MEMORY).wait(20)
    assert done.code == (2 if verb == "predict" else 1), done
    assert "bomb.png: " in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    figure.count("refused", 1)


@pytest.mark.parametrize("size", [(1, 1), (1, 30000), (30000, 1)])
def test_images_of_a_pixel_a_row_or_a_column_are_answered(
    size: tuple[int, int], trained: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    Image.new("RGB", size, (90, 30, 200)).save(tmp_path / "x.png")
    words = ("predict", trained, tmp_path / "x.png")
    zygote.start(*words, folder=tmp_path / "said", memory_bytes=MEMORY).wait(20).succeeded()
    figure.count("answered", 1)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "16 bits", "CMYK"])
def test_64_megapixels_take_300_mb(mode: str, tmp_path: Path, figure: Figure) -> None:
    taken = peak(tmp_path, save(tmp_path, mode, 8000))
    figure.most("MB over base", taken)
    assert 150 < taken <= 300
