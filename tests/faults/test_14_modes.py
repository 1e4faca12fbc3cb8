"""CMYK, grey, palettes, transparency, one bit, colour profiles: RGB within 1 of what is defined."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from forebear.data.images.decode import open_image
from tests.faults.conftest import Figure
from tests.faults.zygote import Zygote

Pixels = NDArray[np.float64]


def noise(channels: int) -> NDArray[np.uint8]:
    shape = (24, 30, channels) if channels > 1 else (24, 30)
    return np.random.default_rng(channels).integers(0, 256, shape, dtype=np.uint8)


def over_white(colours: Pixels, alpha: Pixels) -> Pixels:
    share = alpha[..., None] / 255
    return colours * share + 255 * (1 - share)


def grey(values: NDArray[np.uint8]) -> Pixels:
    return np.repeat(values[..., None], 3, axis=2).astype(np.float64)


def case(mode: str) -> tuple[Image.Image, dict[str, object], Pixels]:
    """An image, the options it is saved with, and its RGB values by definition."""
    if mode == "L":
        return Image.fromarray(noise(1)), {}, grey(noise(1))
    if mode == "LA":
        values, alpha = noise(1), noise(3)[..., 0]
        image = Image.merge("LA", [Image.fromarray(values), Image.fromarray(alpha)])
        return image, {}, over_white(grey(values), alpha.astype(np.float64))
    if mode == "RGBA":
        pixels = noise(4).astype(np.float64)
        wanted = over_white(pixels[..., :3], pixels[..., 3])
        return Image.fromarray(noise(4)), {}, wanted
    if mode == "CMYK":
        pixels = noise(4).astype(np.float64)
        wanted = (255 - pixels[..., :3]) * (255 - pixels[..., 3:]) / 255
        return Image.frombytes("CMYK", (30, 24), noise(4).tobytes()), {"format": "TIFF"}, wanted
    if mode == "1":
        bits = noise(1) > 127
        return Image.fromarray(bits), {}, grey(bits.astype(np.uint8) * 255)
    if mode == "RGB transparent":
        shown = noise(3)
        shown[3, 4] = (1, 2, 3)
        wanted = shown.astype(np.float64)
        wanted[(shown == (1, 2, 3)).all(2)] = 255
        return Image.fromarray(shown), {"transparency": (1, 2, 3)}, wanted
    colours = noise(3)[:16, 0]
    places = noise(1) % 16
    image = Image.fromarray(places).convert("P")
    image.putpalette(colours.tobytes() + bytes(768 - colours.size))
    wanted = colours[places].astype(np.float64)
    if mode == "P":
        return image, {}, wanted
    wanted[places == 3] = 255
    return image, {"transparency": 3}, wanted


MODES = ["L", "LA", "RGBA", "CMYK", "1", "RGB transparent", "P", "P transparent"]


@pytest.mark.parametrize("mode", MODES)
def test_the_values_are_those_of_the_definition(mode: str, figure: Figure) -> None:
    image, options, wanted = case(mode)
    stream = io.BytesIO()
    image.save(stream, **{"format": "PNG", **options})  # type: ignore[arg-type]
    found = np.asarray(open_image(stream.getvalue())).astype(np.float64)
    largest = float(np.abs(found - wanted).max())
    figure.most("of 255 from the definition", largest)
    assert largest <= 1


def test_a_colour_profile_changes_nothing(
    tmp_path: Path, trained: Path, zygote: Zygote, figure: Figure
) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.fromarray(noise(3)).save(tmp_path / "plain.png")
    Image.fromarray(noise(3)).save(tmp_path / "icc.png", icc_profile=profile)
    words = ("predict", trained, tmp_path / "plain.png", tmp_path / "icc.png")
    done = zygote.start(*words, folder=tmp_path / "said").wait()
    done.succeeded()
    first, second = (line.partition(": ")[2] for line in done.stdout.splitlines())
    assert first == second
    figure.count("as specified", 1)
