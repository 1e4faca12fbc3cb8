"""The memory that decoding takes, and threads that wait for each other."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forebear.data.images import large
from forebear.data.images.decode import look_at, open_image
from forebear.errors import DataError
from tests.data.making import encoded, noise, write

PEAK = """
import sys, threading
from pathlib import Path
from forebear.data.images.decode import look_at, open_image
from forebear.data.images.large import GATE
from forebear.data.images.preprocess import preprocess
from forebear.tables.preprocessing import TORCHVISION

small, path, threads = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def run(path):
    with GATE.scope():
        facts, fault = look_at(path, "x")
        assert fault is None, fault
    with GATE.scope():
        preprocess(open_image(path), TORCHVISION)

def peak():  # of this program alone; ru_maxrss also counts the one that started it
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024

run(small)
before = peak()
started = [threading.Thread(target=run, args=(path,)) for _ in range(threads)]
for one in started: one.start()
for one in started: one.join()
print(peak() - before)
"""


def peak(folder: Path, path: Path, threads: int = 1) -> float:
    """Megabytes over base that decoding an image takes in a process of its own."""
    small = write(folder / "small.png", encoded(noise(0), "PNG"))
    words = [sys.executable, "-c", PEAK, str(small), str(path), str(threads)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return int(done.stdout) / 1e6


def save(folder: Path, mode: str, side: int) -> Path:
    """An image of a mode that compresses well."""
    tile = np.add.outer(np.arange(side // 16), np.arange(side // 16)).astype(np.uint8)
    grey = Image.fromarray(tile).resize((side, side), Image.Resampling.NEAREST)
    rgb = grey.convert("RGB")
    path = folder / f"{mode.replace(' ', '-')}.png"
    if mode == "RGBA":
        rgb.putalpha(grey)
        rgb.save(path)
    elif mode == "LA":
        grey.putalpha(grey.copy())
        grey.save(path)
    elif mode == "CMYK":
        path = path.with_suffix(".jpg")
        rgb.convert("CMYK").save(path)
    elif mode == "16 bits":
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 9).save(path)
    elif mode == "P":
        rgb.convert("P").save(path, transparency=3)
    elif mode == "turned":
        exif = Image.Exif()
        exif[274] = 6
        path = path.with_suffix(".jpg")
        rgb.save(path, exif=exif)
    else:
        rgb.save(path)
    return path


MODES = ["RGB", "RGBA", "LA", "CMYK", "16 bits", "P", "turned"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_an_image_of_64_megapixels_takes_300_mb(mode: str, tmp_path: Path) -> None:
    taken = peak(tmp_path, save(tmp_path, mode, 8000))
    print(f"{mode}: {taken:.0f} MB over base")
    assert 150 < taken <= 300


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["RGBA", "16 bits"])
def test_eight_threads_take_no_more(mode: str, tmp_path: Path) -> None:
    most = max(300, 1.1 * large.budget() / 1e6)
    assert peak(tmp_path, save(tmp_path, mode, 8000), threads=8) <= most


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.long
def test_a_large_image_is_never_copied(tmp_path: Path) -> None:
    taken = peak(tmp_path, save(tmp_path, "RGBA", 4800))  # 23 megapixels, 92 MB
    assert 60 < taken < 92 * 1.5


def test_threads_wait_until_an_image_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "budget", lambda: 1000)
    gate, at_once, most = large._Gate(), 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal at_once, most
        with gate.scope():
            gate.charge(10, 10)  # 800 bytes
            with lock:
                at_once += 1
                most = max(most, at_once)
            time.sleep(0.01)
            with lock:
                at_once -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert most == 1


def test_without_a_scope_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "budget", lambda: 10)
    gate = large._Gate()
    for _ in range(3):
        gate.charge(1000, 1000)
    with gate.scope():
        gate.charge(1000, 1000)  # larger than the budget: it decodes alone


@pytest.mark.parametrize(
    ("kind", "side", "said"),
    [("WEBP", 4300, "WEBP image of at most 18"), ("JPEG", 6400, "progressive JPEG image of at")],
)
def test_formats_whose_decoders_take_more_have_lower_limits(
    kind: str, side: int, said: str
) -> None:
    options = {"progressive": True} if kind == "JPEG" else {}
    content = encoded(Image.new("RGB", (side, side)), kind, **options)
    with pytest.raises(DataError, match=said):
        open_image(content)
    assert "too large" in str(look_at(content, "x")[1])


@pytest.mark.long
def test_many_frames_are_counted_in_bounded_time(tmp_path: Path) -> None:
    frames = [Image.new("L", (1, 1), at % 256) for at in range(30_000)]
    frames[0].save(tmp_path / "y.gif", save_all=True, append_images=frames[1:], optimize=False)
    started = time.perf_counter()
    facts, fault = look_at(tmp_path / "y.gif", "y")
    assert fault is None
    assert facts is not None
    assert facts.frames > 1000
    assert time.perf_counter() - started < 5
