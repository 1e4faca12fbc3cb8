"""The eight EXIF orientations give one image; broken EXIF data are passed over."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faults.conftest import Figure
from tests.faults.zygote import Zygote

# The transposition that undoes each orientation, inverted: how the camera stored the image
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((90, 60))


def stored(number: int) -> bytes:
    turn, exif, stream = STORED[number], Image.Exif(), io.BytesIO()
    exif[274] = number
    image = picture() if turn is None else picture().transpose(turn)
    image.save(stream, "PNG", exif=exif)
    return stream.getvalue()


def test_all_eight_give_the_same_answer(
    trained: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    for number in STORED:
        (tmp_path / f"{number}.png").write_bytes(stored(number))
    words = ("predict", trained, *(tmp_path / f"{number}.png" for number in STORED), "--json")
    done = zygote.start(*words, folder=tmp_path / "said").wait()
    done.succeeded()
    answers = [line.partition('"classes"')[2] for line in done.stdout.splitlines()]
    figure.count("equal", sum(answer == answers[0] for answer in answers), len(STORED))
    assert len(set(answers)) == 1


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\x09\0"]
)
def test_broken_exif_is_passed_over(
    exif: bytes, trained: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    picture().save(tmp_path / "x.jpg", exif=exif)
    picture().save(tmp_path / "plain.jpg")
    words = ("predict", trained, tmp_path / "x.jpg", tmp_path / "plain.jpg")
    done = zygote.start(*words, folder=tmp_path / "said").wait()
    done.succeeded()
    first, second = (line.partition(": ")[2] for line in done.stdout.splitlines())
    assert first == second
    figure.count("equal", 1)
