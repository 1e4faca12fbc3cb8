from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from forebear.data.dataset import ArrayImages, EncodedImages
from forebear.data.decoder import Decoder
from forebear.data.images.bands import AnyImage, as_image, open_any_image
from forebear.data.images.decode import Box
from forebear.data.pixel_cache import Pixels
from forebear.data.pixel_store import PixelStore
from forebear.errors import DataError
from forebear.tables.preprocessing import TORCHVISION, Preprocessing
from tests.data.making import encoded, noise


def square(side: int) -> Preprocessing:
    return replace(TORCHVISION, size=side, side=side)


def files(folder: Path, count: int) -> EncodedImages:
    paths = []
    for seed in range(count):
        paths.append(str(folder / f"{seed}.png"))
        noise(seed, 30 + seed % 7, 20).save(paths[-1])
    return EncodedImages(paths, paths, np.zeros(count, dtype=np.int64))


def arrays(side: int, channels: int) -> ArrayImages:
    shape = (5, side, side, channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return ArrayImages(pixels, np.arange(5), "test")


def test_images_come_in_the_order_asked_for(tmp_path: Path) -> None:
    images = files(tmp_path, 9)
    found = PixelStore(images, square(10))[[4, 0, 4]]
    assert (str(found.dtype), found.shape) == ("uint8", (3, 10, 10, 3))
    for place, index in enumerate([4, 0, 4]):
        whole = as_image(images.image(index))
        half = whole.resize((whole.width // 2, 10), Image.Resampling.BILINEAR)
        left = round((half.width - 10) / 2)
        np.testing.assert_array_equal(found[place], np.asarray(half)[:, left : left + 10])


def test_filled_and_unfilled_stores_give_the_same(tmp_path: Path) -> None:
    images = files(tmp_path, 150)
    filled = PixelStore(images, square(8))
    small = PixelStore(images, square(8), memory=150 * 8 * 8 * 3 - 1, disk=0)
    assert (filled.fits, small.fits) == (True, False)
    steps: list[tuple[int, int]] = []
    filled.fill(lambda done, total: steps.append((done, total)))
    assert steps[-1] == (150, 150)
    assert steps == sorted(set(steps))
    small.fill(lambda done, total: pytest.fail("filled beyond its memory and its disk"))
    for index in range(1, 150):
        Path(images.names[index]).unlink()
    everything = filled[range(150)]
    np.testing.assert_array_equal(everything[:1], small[[0]])
    with pytest.raises(DataError, match=r"149\.png: no such file"):
        small[[149]]


def test_arrays_of_the_right_side_are_untouched() -> None:
    images = arrays(8, 3)
    store = PixelStore(images, square(8), memory=0)
    found = store[[3, 1]]
    np.testing.assert_array_equal(found, images.pixels[[3, 1]])
    found[:] = 0
    assert images.pixels[[3, 1]].any()  # a copy was given


def test_small_grey_arrays_are_enlarged() -> None:
    images = arrays(8, 1)
    store = PixelStore(images, replace(square(32), order="L", mean=(0.0,), std=(1.0,)))
    store.fill()
    expected = as_image(images.image(2)).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(store[[2]][0, :, :, 0], np.asarray(expected))


def gradient(width: int, height: int) -> Image.Image:
    return Image.linear_gradient("L").resize((width, height)).convert("RGB")


def watch_scales(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The widths that JPEGs are decoded at from now on."""
    seen: list[int] = []
    load = JpegImagePlugin.JpegImageFile.load

    def watched(self: JpegImagePlugin.JpegImageFile) -> Any:
        if not seen or seen[-1] != self.size[0]:  # Pillow asks for it again and again
            seen.append(self.size[0])
        return load(self)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", watched)
    return seen


def one(content: bytes) -> EncodedImages:
    return EncodedImages([content], ["x"], np.zeros(1, dtype=np.int64))


def test_jpegs_are_decoded_at_a_reduced_scale_when_that_is_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = watch_scales(monkeypatch)
    image = gradient(800, 600)
    found = PixelStore(one(encoded(image, "JPEG")), square(100), reduced=True)[[0]][0].astype(int)
    assert seen == [200]
    exact = np.asarray(image.resize((133, 100), Image.Resampling.BILINEAR))[:, 16:116]
    assert np.abs(found - exact).max() <= 4


def test_a_reduced_store_keeps_what_the_exact_one_does(tmp_path: Path) -> None:
    rule = replace(square(20), side=25)
    images = EncodedImages(
        [encoded(smooth(seed, 90 + 7 * seed, 70), "PNG") for seed in range(6)],
        [str(seed) for seed in range(6)],
        np.zeros(6, dtype=np.int64),
    )
    exact, reduced = (
        PixelStore(images, rule, reduced=r)[range(6)].astype(int) for r in (False, True)
    )
    assert np.abs(exact - reduced).max() <= 1


def smooth(seed: int, width: int, height: int) -> Image.Image:
    return noise(seed, 6, 5).resize((width, height), Image.Resampling.BICUBIC)


def test_crops_are_those_of_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watch_scales(monkeypatch)
    image = gradient(800, 600)
    exif = Image.Exif()
    exif[274] = 6  # stored lying down
    turned = encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif)
    images = EncodedImages(
        [encoded(image, "JPEG"), turned, encoded(image, "PNG")],
        ["a", "b", "c"],
        np.zeros(3, dtype=np.int64),
    )
    told: list[tuple[int, int, int]] = []

    def box(index: int, width: int, height: int) -> Box:
        told.append((index, width, height))
        return 100.5, 50.25, 500.5, 550.25

    found = PixelStore(images, square(90), workers=0).take_crops([2, 0, 1], box)[1]
    assert told == [(2, 800, 600), (0, 800, 600), (1, 800, 600)]
    assert seen == [200, 150]  # a quarter: a half of the smaller side would be 200 pixels, over 90
    exact = image.resize((90, 90), Image.Resampling.BILINEAR, (100.5, 50.25, 500.5, 550.25))
    assert (found.shape, str(found.dtype)) == ((3, 90, 90, 3), "uint8")
    for square_ in found.astype(int):
        assert np.abs(square_ - np.asarray(exact)).max() <= 4


def test_a_small_box_is_decoded_at_full_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watch_scales(monkeypatch)
    store = PixelStore(one(encoded(gradient(800, 600), "JPEG")), square(90), workers=0)
    store.take_crops([0], lambda index, width, height: (700.0, 500.0, 800.0, 600.0))
    assert seen == [800]


def test_crops_of_a_filled_store_are_of_the_files_and_in_its_channels(tmp_path: Path) -> None:
    grey = replace(square(6), order="L", mean=(0.0,), std=(1.0,))
    store = PixelStore(files(tmp_path, 3), grey)
    store.fill()
    _, found = store.take_crops([1], lambda index, width, height: (0.0, 0.0, 6.0, 6.0))
    exact = as_image(store.images.image(1)).crop((0, 0, 6, 6)).convert("L")
    np.testing.assert_array_equal(found[0, :, :, 0], np.asarray(exact))


def test_a_fault_of_the_box_is_not_a_bad_image(tmp_path: Path) -> None:
    def box(index: int, width: int, height: int) -> Box:
        raise ZeroDivisionError

    jpeg = PixelStore(one(encoded(noise(0), "JPEG")), square(8), bad="skip")
    for store in (jpeg, PixelStore(files(tmp_path, 1), square(8), bad="skip")):
        with pytest.raises(ZeroDivisionError):
            store.take_crops([0], box)
        assert store.skipped == {}


def test_an_image_that_cannot_be_decoded_is_named_and_never_replaced(tmp_path: Path) -> None:
    images = files(tmp_path, 5)
    (tmp_path / "3.png").write_bytes(b"words")
    store = PixelStore(images, square(8))
    with pytest.raises(DataError, match=r"3\.png: not an image"):
        store.fill()
    with pytest.raises(DataError, match=r"3\.png: not an image"):
        store[[0, 3]]
    assert store[[0, 4]].shape == (2, 8, 8, 3)


BAD = {3: b"", 17: b"words", 30: b"<html>", 49: encoded(noise(0), "JPEG")[:200]}


def damaged(folder: Path, count: int, bad: Mapping[int, bytes] = BAD) -> EncodedImages:
    images = files(folder, count)
    for index, content in bad.items():
        Path(images.names[index]).write_bytes(content)
    return images


@pytest.mark.parametrize("workers", [0, 2])
def test_four_bad_files_of_fifty_are_skipped_and_named(workers: int, tmp_path: Path) -> None:
    images = damaged(tmp_path, 50)
    store = PixelStore(images, square(8), bad="skip", workers=workers)
    assert store.indices.tolist() == list(range(50))
    store.fill()
    assert len(store.skipped) == 4
    assert store.indices.tolist() == [i for i in range(50) if i not in BAD]
    assert store.skipped[3].startswith(f"{tmp_path / '3.png'}: the file is empty")
    assert "17.png: not an image" in store.skipped[17]
    found, squares = store.take([2, 3, 4])
    assert found.tolist() == [2, 4]
    np.testing.assert_array_equal(squares, PixelStore(images, square(8))[[2, 4]])
    with pytest.raises(DataError, match=r"3\.png: the file is empty"):
        store[[2, 3, 4]]


def test_in_a_stream_a_bad_file_is_dropped_from_its_batch(tmp_path: Path) -> None:
    store = PixelStore(damaged(tmp_path, 50), square(8), bad="skip")
    found, squares = store.take([17, 16, 2, 3])
    assert found.tolist() == [16, 2]
    assert squares.shape == (2, 8, 8, 3)
    assert sorted(store.skipped) == [3, 17]
    assert store.take([17])[0].tolist() == []
    found, parts = store.take_crops([30, 1], lambda index, width, height: (0.0, 0.0, 8.0, 8.0))
    assert (found.tolist(), parts.shape) == ([1], (1, 8, 8, 3))
    assert sorted(store.skipped) == [3, 17, 30]
    with pytest.raises(DataError, match=r"17\.png: not an image"):
        store[[1, 17]]


def test_more_than_one_percent_is_an_error(tmp_path: Path) -> None:
    many = dict.fromkeys(range(6), b"words")
    with pytest.raises(DataError, match=r"6 of 50 images cannot be decoded; .* at most 1%, or 5"):
        PixelStore(damaged(tmp_path, 50, many), square(8), bad="skip").fill()
    store = PixelStore(damaged(tmp_path, 600, many), square(8), bad="skip")
    store.fill()
    assert sorted(store.skipped) == list(many)


def test_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    images = files(tmp_path, 1)
    with pytest.raises(ValueError, match="workers=-1: expected 0 or more"):
        PixelStore(images, square(8), workers=-1)
    with pytest.raises(ValueError, match="bad='drop': expected fail or skip"):
        PixelStore(images, square(8), bad="drop")  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")
def test_threads_beside_the_training_give_way_and_the_caller_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, int] = {}

    def watched(source: Path, *, name: str, channels: int, levels: None) -> AnyImage:
        native = threading.get_native_id()
        seen[threading.current_thread().name] = os.getpriority(os.PRIO_PROCESS, native)
        return open_any_image(source, name=name, channels=channels)

    monkeypatch.setattr("forebear.data.dataset.open_any_image", watched)
    images = files(tmp_path, 4)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    PixelStore(images, square(8), workers=0)[[0]]
    assert seen == {"MainThread": own}
    seen.clear()
    store = PixelStore(images, square(8), workers=1)
    store[[0, 1]]
    assert list(seen.values()) == [19]
    seen.clear()
    store.fill()  # nothing trains yet
    assert list(seen.values()) == [own]
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was decoded is worth keeping."""
    monkeypatch.setattr("forebear.data.pixel_store.WORTH_KEEPING", 0.0)


def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        pytest.fail("decoding again")

    monkeypatch.setattr("forebear.data.dataset.open_any_image", refuse)


def kept(tmp_path: Path) -> list[str]:
    return sorted(path.suffix for path in (tmp_path / "home/cache").glob("*"))


def test_what_took_seconds_is_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = files(tmp_path, 60)
    PixelStore(images, square(8)).fill()
    assert kept(tmp_path) == []  # it took no time
    monkeypatch.setattr("forebear.data.pixel_store.WORTH_KEEPING", 0.0)
    first = PixelStore(images, square(8))
    first.fill()
    assert kept(tmp_path) == [".json", ".pixels"]
    again = PixelStore(images, square(8))
    steps: list[tuple[int, int]] = []
    monkeypatch.setattr(Decoder, "chunks", lambda *_: pytest.fail("decoding again"))
    again.fill(lambda done, total: steps.append((done, total)))
    assert steps == [(60, 60)]
    np.testing.assert_array_equal(again[range(60)], first[range(60)])


@pytest.mark.usefixtures("patient")
def test_a_set_beyond_memory_is_mapped_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = files(tmp_path, 300)
    expected = PixelStore(images, square(8), disk=0)[range(300)]
    store = PixelStore(images, square(8), memory=0)
    steps: list[tuple[int, int]] = []
    store.fill(lambda done, total: steps.append((done, total)))
    assert steps == [(256, 300), (300, 300)]
    no_decoding(monkeypatch)
    np.testing.assert_array_equal(store[range(300)], expected)
    found = store[[5]]
    found[:] = 0  # a copy: the file stays as it is
    again = PixelStore(images, square(8), memory=0)
    again.fill()
    np.testing.assert_array_equal(again[range(300)], expected)


@pytest.mark.usefixtures("patient")
def test_other_images_geometry_or_order_are_other_sets(tmp_path: Path) -> None:
    images = files(tmp_path, 20)

    def filled(images: EncodedImages, rule: Preprocessing, **options: Any) -> Pixels:
        store = PixelStore(images, rule, memory=0, **options)
        store.fill()
        exact = PixelStore(images, rule, disk=0, **options)
        np.testing.assert_array_equal(store[range(len(store))], exact[range(len(store))])
        return store[range(len(store))]

    filled(images, square(8))
    filled(images, replace(square(8), side=10))
    filled(images, replace(square(8), interpolation="bicubic"))
    filled(images, replace(square(8), interpolation="tf-bilinear"))
    filled(images, replace(square(8), order="L", mean=(0.0,), std=(1.0,)))
    filled(images, square(8), reduced=True)
    filled(images.take(np.arange(19, -1, -1)), square(8))
    noise(99).save(tmp_path / "7.png")
    filled(images, square(8))
    assert len(kept(tmp_path)) == 2 * 8
    filled(images, replace(square(8), mean=(0.0,) * 3))  # of values, which are not kept
    assert len(kept(tmp_path)) == 2 * 8


@pytest.mark.usefixtures("patient")
def test_what_was_skipped_is_known_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = damaged(tmp_path, 50)
    first, again = (PixelStore(images, square(8), memory=0, bad="skip") for _ in range(2))
    first.fill()
    no_decoding(monkeypatch)
    again.fill()
    assert again.skipped == first.skipped
    assert again.take([2, 3])[0].tolist() == [2]
    with pytest.raises(DataError, match=r"3\.png: the file is empty"):
        PixelStore(images, square(8), memory=0).fill()


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("memory", [0, 2**30])
def test_a_damaged_set_is_noticed_and_decoded_again(
    memory: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = files(tmp_path, 40)
    expected = PixelStore(images, square(8), disk=0)[range(40)]
    PixelStore(images, square(8), memory=memory).fill()
    (pixels,), (note,) = (
        list((tmp_path / "home/cache").glob(f"*.{s}")) for s in ("pixels", "json")
    )
    whole, described = pixels.read_bytes(), note.read_bytes()
    flipped = bytearray(whole)
    flipped[1000] ^= 4
    damages = [
        (b"", described, "the file has the wrong size"),
        (whole[:-1], described, "the file has the wrong size"),
        (whole + b"x", described, "the file has the wrong size"),
        (bytes(flipped), described, "checksum is wrong"),
        (whole, described.replace(b"[40, 8", b"[8, 40"), "the shape or dtype does not match"),
        (whole, described[:20], "decoding again"),
        (whole, b"[]", "decoding again"),
    ]
    for content, text, message in damages:
        pixels.write_bytes(content)
        note.write_bytes(text)
        caplog.clear()
        store = PixelStore(images, square(8), memory=memory)
        store.fill()
        assert message in caplog.text
        np.testing.assert_array_equal(store[range(40)], expected)
        assert (pixels.read_bytes(), note.read_bytes()) == (whole, described)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("memory", [0, 2**30])
def test_a_full_disk_leaves_nothing_behind_and_stops_nothing(
    memory: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(partial: Path, content: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("forebear.data.pixel_cache.write_text", full)
    images = files(tmp_path, 20)
    store = PixelStore(images, square(8), memory=memory)
    store.fill()
    assert "No space left on device" in caplog.text
    assert kept(tmp_path) == []
    np.testing.assert_array_equal(store[[3]], PixelStore(images, square(8))[[3]])


@pytest.mark.usefixtures("patient")
def test_a_limit_of_file_sizes_is_survived(tmp_path: Path) -> None:
    program = f"""
import resource, signal, sys
from pathlib import Path
from tests.data.test_pixel_store import files, square
from forebear.data.pixel_store import PixelStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
images = files(Path({str(tmp_path)!r}), 300)
store = PixelStore(images, square(8), memory=0)
store.fill()
assert store[[7]].shape == (1, 8, 8, 3)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stderr
    assert kept(tmp_path) == []


@pytest.mark.usefixtures("patient")
def test_the_sets_unused_for_longest_make_room(tmp_path: Path) -> None:
    images = files(tmp_path, 20)
    size = 20 * 8 * 8 * 3
    first = PixelStore(images, square(8), memory=0, disk=2 * size)
    first.fill()
    (old,) = (tmp_path / "home/cache").glob("*.json")
    os.utime(old, (1, 1))
    abandoned = old.with_name(".x.pixels.1.tmp.pixels")
    abandoned.write_bytes(b"x")
    os.utime(abandoned, (1, 1))
    for rule in (replace(square(8), side=9), replace(square(8), side=10)):
        PixelStore(images, rule, memory=0, disk=2 * size).fill()
    assert not old.exists()
    assert not abandoned.exists()
    assert len(kept(tmp_path)) == 4
    first[[0]]  # what is mapped stays readable
    PixelStore(images, square(8), memory=0, disk=size - 1).fill()
    assert len(kept(tmp_path)) == 4
