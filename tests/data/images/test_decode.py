from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from forebear.data.images.decode import Box, Facts, look_at, open_image, open_part
from forebear.errors import DataError
from tests.data.making import encoded, noise, png, shared, write

TURN = Image.Transpose
STORED = {  # how an upright image lies in a file of each orientation
    1: None,
    2: TURN.FLIP_LEFT_RIGHT,
    3: TURN.ROTATE_180,
    4: TURN.FLIP_TOP_BOTTOM,
    5: TURN.TRANSPOSE,
    6: TURN.ROTATE_90,
    7: TURN.TRANSVERSE,
    8: TURN.ROTATE_270,
}


def values(source: Path | bytes, channels: int = 3) -> NDArray[np.int64]:
    return np.asarray(open_image(source, channels=channels)).astype(np.int64)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_all_eight_orientations_show_the_same_image(kind: str) -> None:
    upright = noise(0)
    for orientation, turn in STORED.items():
        exif = Image.Exif()
        exif[274] = orientation
        stored = upright if turn is None else upright.transpose(turn)
        options = {"lossless": True} if kind == "WEBP" else {}
        found = values(encoded(stored, kind, exif=exif, **options))
        np.testing.assert_array_equal(found, np.asarray(upright), str(orientation))


def test_orientation_of_a_jpeg_is_applied_at_reduced_scale_too() -> None:
    exif = Image.Exif()
    exif[274] = 6
    jpeg = encoded(Image.new("RGB", (640, 320)), "JPEG", exif=exif)
    assert open_image(jpeg).size == (320, 640)
    whole: list[tuple[int, int]] = []

    def all_of(width: int, height: int) -> Box:
        whole.append((width, height))
        return 0, 0, width, height

    for size in (40, 300):  # an eighth of the scale, and all of it
        assert open_part(jpeg, all_of, (size, size)).size == (size, size)
    assert whole == [(320, 640)] * 2


def test_a_part_is_that_of_the_image_and_never_reaches_beyond() -> None:
    image = noise(3, 40, 30)
    for kind in ("PNG", "BMP"):
        part = open_part(encoded(image, kind), lambda *_: (10, 5, 20, 15), (10, 10))
        np.testing.assert_array_equal(np.asarray(part), np.asarray(image.crop((10, 5, 20, 15))))
    beyond = open_part(encoded(image, "PNG"), lambda *_: (-5, -5, 90, 90), (16, 16))
    whole = image.resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(np.asarray(beyond), np.asarray(whole))


def test_parts_of_bad_images_are_named() -> None:
    jpeg = encoded(noise(0, 64, 64), "JPEG")
    for content, message in (
        (b"", "x.jpg: the file is empty"),
        (b"words", "x.jpg: not an image"),
        (jpeg[: len(jpeg) // 2], "x.jpg: cannot be decoded"),
    ):
        with pytest.raises(DataError, match=message):
            open_part(content, lambda width, height: (0, 0, width, height), (8, 8), name="x.jpg")


def test_an_image_is_looked_at_down_to_its_last_pixel(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 8
    jpeg = encoded(noise(0, 64, 48), "JPEG", exif=exif)
    facts, error = look_at(jpeg, "x")
    assert facts == Facts(
        width=64, height=48, mode="RGB", format="JPEG", bits=8, frames=1, orientation=8
    )
    assert error is None
    facts, error = look_at(jpeg[:-600], "x")
    assert facts is not None
    assert facts.width == 64
    assert error is not None
    assert error.startswith("x: cannot be decoded (image file is truncated")
    assert look_at(b"words", "x")[0] is None
    deep = Image.fromarray(np.arange(6, dtype=np.uint16).reshape(2, 3) * 9000)
    for kind in ("PNG", "TIFF"):
        facts, _ = look_at(encoded(deep, kind), "x")
        assert facts is not None
        assert (facts.bits, facts.mode) == (16, "I;16")
    rgb = png(1, 1, bits=16, colour=2, rows=b"\0\1" * 3)
    assert look_at(rgb, "x")[0] == Facts(
        width=1, height=1, mode="RGB", format="PNG", bits=16, frames=1, orientation=1
    )
    moving = encoded(noise(0), "GIF", save_all=True, append_images=[noise(1), noise(2)])
    facts, error = look_at(moving, "x")
    assert facts is not None
    assert (facts.frames, facts.mode, error) == (3, "P", None)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_is_ignored() -> None:
    jpeg = encoded(noise(1), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert open_image(jpeg).size == noise(1).size


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind: str) -> None:
    deep = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    found = values(encoded(Image.fromarray(deep), kind), channels=1)
    np.testing.assert_array_equal(found, np.rint(deep / 257))
    assert len(np.unique(found)) == 256


def test_16_bit_colour_is_scaled_and_not_clipped() -> None:
    deep = np.random.default_rng(2).integers(0, 65536, (6, 5, 3), dtype=np.uint16)
    found = values(png(5, 6, bits=16, colour=2, rows=deep.astype(">u2").tobytes()))
    assert np.abs(found - deep / 257).max() < 1


def test_12_bit_tiff_is_scaled_by_its_own_range() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    deep = np.array([[0, 2048, 4095, 1]], dtype=np.uint16)
    packed = bytes([0x00, 0x08, 0x00, 0xFF, 0xF0, 0x01])  # 000 800 fff 001
    tiff = bytearray(encoded(Image.new("L", (6, 1)), "TIFF", tiffinfo=tags, compression=None))
    at = _tiff_entries(tiff)
    struct.pack_into("<H", tiff, at[256] + 8, 4)  # width
    struct.pack_into("<H", tiff, at[258] + 8, 12)  # bits a sample
    offset = struct.unpack_from("<I", tiff, at[273] + 8)[0]
    tiff[offset : offset + 6] = packed
    np.testing.assert_array_equal(values(bytes(tiff), channels=1), np.rint(deep / 4095 * 255))


def _tiff_entries(tiff: bytearray) -> dict[int, int]:
    """Where each tag's entry lies in a little-endian TIFF."""
    start = struct.unpack_from("<I", tiff, 4)[0]
    count = struct.unpack_from("<H", tiff, start)[0]
    places = range(start + 2, start + 2 + 12 * count, 12)
    return {struct.unpack_from("<H", tiff, place)[0]: place for place in places}


def test_32_bit_samples_are_refused_unless_their_range_is_declared() -> None:
    deep = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    with pytest.raises(DataError, match=r"F samples \(32 bits\) of unknown range"):
        open_image(encoded(deep, "TIFF"))
    with pytest.raises(DataError, match=r"I samples \(32 bits\) of unknown range"):
        open_image(encoded(Image.new("I", (2, 2), 70000), "TIFF"))
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in ((340, 0.0), (341, 1.0)):
        tags.tagtype[tag] = 11  # float
        tags[tag] = value
    found = values(encoded(deep, "TIFF", tiffinfo=tags), channels=1)
    np.testing.assert_array_equal(found, [[0, 128, 255]])
    nan = Image.fromarray(np.array([[0.0, np.nan]], dtype=np.float32))
    with pytest.raises(DataError, match="in the declared range 0 to 1"):
        open_image(encoded(nan, "TIFF", tiffinfo=tags))


def test_transparent_parts_show_white_and_not_the_hidden_colour() -> None:
    red = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert values(encoded(red, "PNG")).min() == 255
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    assert open_image(encoded(half, "PNG")).getpixel((0, 0)) == (255, 127, 127)
    dark = Image.new("LA", (4, 4), (0, 0))
    assert values(encoded(dark, "PNG"), channels=1).min() == 255


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_transparent_palette_entries_show_white(kind: str) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    found = values(encoded(image, kind, transparency=0))
    np.testing.assert_array_equal(found, [[[255, 255, 255], [200, 100, 50]]])


def test_transparent_grey_value_of_16_bits_shows_white() -> None:
    rows = np.array([[1234, 1235]], dtype=">u2").tobytes()
    image = png(2, 1, bits=16, colour=0, rows=rows, trns=struct.pack(">H", 1234))
    np.testing.assert_array_equal(values(image, channels=1), [[255, 5]])


def test_cmyk_becomes_its_rgb() -> None:
    ink = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    for kind in ("JPEG", "TIFF"):
        found = values(encoded(ink, kind))
        assert np.abs(found - (0, 255, 255)).max() <= 3, kind


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_of_png_comes_as_asked_for(mode: str) -> None:
    grey = np.zeros((4, 4), dtype=np.uint8)
    grey[:2] = 255
    image = encoded(Image.fromarray(grey).convert(mode), "PNG")
    np.testing.assert_array_equal(values(image, channels=1), grey)
    np.testing.assert_array_equal(values(image), np.stack([grey] * 3, axis=2))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_of_several_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    animated = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert open_image(animated).getpixel((4, 4)) == (255, 0, 0)


def test_content_tells_the_format_and_not_the_name(tmp_path: Path) -> None:
    path = write(tmp_path / "n02105855_2933.JPEG", encoded(noise(3), "PNG"))
    np.testing.assert_array_equal(values(path), np.asarray(noise(3)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.9])
def test_images_cut_short_are_refused_by_name(kind: str, share: float, tmp_path: Path) -> None:
    whole = encoded(noise(4, 200, 100), kind)
    path = write(tmp_path / "cut.jpg", whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"cut\.jpg: (cannot be decoded|not an image)"):
        open_image(path)


def test_files_that_are_no_images_say_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"empty\.jpg: the file is empty \(0 bytes\)"):
        open_image(write(tmp_path / "empty.jpg", b""))
    with pytest.raises(DataError, match=r"text\.jpg: not an image; it is an HTML page"):
        open_image(write(tmp_path / "text.jpg", b"<html>404</html>"))
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(DataError, match=r"folder\.jpg: a folder, not a file"):
        open_image(tmp_path / "folder.jpg")
    with pytest.raises(DataError, match=r"gone\.jpg: no such file"):
        open_image(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match="row 7: the file is empty"):
        open_image(b"", name="row 7")


def test_formats_beyond_the_list_are_not_tried() -> None:
    with pytest.raises(DataError, match="not an image"):
        open_image(encoded(noise(5), "ICO"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [8001, 10_000, 14_000, 60_000])
def test_more_than_64_megapixels_are_refused_from_the_header(side: int) -> None:
    bomb = png(side, side, bits=8, colour=2, rows=b"")
    with pytest.raises(DataError, match=r"too large .* Expected an image of at most 64 megapixels"):
        open_image(bomb)


def test_names_are_shown_on_one_line() -> None:
    with pytest.raises(DataError, match="Füße 猫.png: no such file"):
        open_image(Path("Füße 猫.png"))
    with pytest.raises(DataError, match=r"'a\\nb': no such file"):
        open_image(Path("a\nb"))


def test_threads_decode_the_same_pixels() -> None:
    sources = [encoded(noise(seed, 64, 64), kind) for seed in range(20) for kind in ("PNG", "BMP")]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(values, sources))
    for found, source in zip(together, sources, strict=True):
        np.testing.assert_array_equal(found, values(source))


def test_photographs_as_published_all_decode() -> None:
    paths = sorted(shared("data/imagenet-samples").glob("*.JPEG"))
    assert len(paths) == 50
    for path in paths:
        assert np.asarray(open_image(path)).std() > 5
        part = open_part(path, lambda width, height: (0, 0, width, height), (64, 64))
        whole = open_image(path).resize((64, 64), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(part).astype(int) - np.asarray(whole)).mean() < 8


def test_a_part_can_be_a_rectangle_and_is_decoded_finely_enough(tmp_path: Path) -> None:
    image = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (8, 512, 3)))
    image.save(tmp_path / "x.jpg", quality=95)
    part = open_part(tmp_path / "x.jpg", lambda *_: (0, 0, 512, 2048), (512, 16))
    assert part.size == (16, 512)
    straight = image.resize((16, 512), Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(part, np.int16) - np.asarray(straight)).mean() < 3
