"""Cases 11 to 18: images that are damaged, odd or huge, given to the peer's own data pipeline."""

from __future__ import annotations

import io
import struct
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from peer_faults.bench import Bench, Result, Variant
from peer_faults.children import Limits, ask

GREEN = (10, 200, 30)  # the image beside the odd one
SIDE = 32


@dataclass(frozen=True, slots=True)
class Read:
    """What became of one image file."""

    kind: str  # left out, replaced, refused, read, died
    said: str = ""  # the error, and what was printed
    values: dict[str, Any] | None = None
    peak_mb: float = 0.0

    def __str__(self) -> str:
        return self.kind


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def read(bench: Bench, name: str, held: bytes, side: int = SIDE) -> Read:
    """Puts a file into a class folder beside a good image of another class, and reads both."""
    world = bench.fresh("world")
    odd, good = world / "train" / "a", world / "train" / "b"
    odd.mkdir(parents=True)
    good.mkdir(parents=True)
    (odd / name).write_bytes(held)
    for path in (odd / "zz.png", good / "good.png"):
        Image.new("RGB", (SIDE, SIDE), GREEN).save(path)
    return look(bench, world, side)


def look(bench: Bench, world: Path, side: int = SIDE, count: int = 3) -> Read:
    def work() -> dict[str, Any]:
        answer: list[dict[str, Any]] = []
        try:
            bench.peer.samples(world, side, answer)
        except BaseException as error:
            return {"broken": f"{type(error).__name__}: {error}"}
        return {"answer": answer}

    found, ended = ask(work, limits=Limits(memory=12 << 30))
    if found is None:
        return Read("died", f"exit {ended.code} {ended.short}", None, ended.peak_mb)
    if "broken" in found:
        return Read("refused", found["broken"], None, ended.peak_mb)
    values: list[dict[str, Any]] = found["answer"]
    if errors := [one["error"] for one in values if "error" in one]:
        return Read("refused", errors[0] + ended.log, None, ended.peak_mb)
    if len(values) < count:
        return Read("left out", ended.log, None, ended.peak_mb)
    if values[0]["middle"] == list(map(float, GREEN)):
        return Read("replaced", ended.log, values[0], ended.peak_mb)
    return Read("read", ended.log, values[0], ended.peak_mb)


def counted(variants: Iterable[Variant]) -> str:
    """`3 refused, 2 read in silence (a, b)` from variants' remarks."""
    held = list(variants)
    words = Counter(one.remark for one in held if one.good is not None)
    parts = []
    for word, count in words.items():
        names = [one.name for one in held if one.remark == word and one.good is not None]
        bad = any(not one.good for one in held if one.remark == word)
        parts.append(f"{count} {word}" + (f" ({', '.join(names)})" if bad and count < 8 else ""))
    return "; ".join(parts)


def refusal(result: Read, name: str) -> tuple[bool, str]:
    """A file that is no image: refused by its name, never replaced, never left out in silence."""
    if result.kind == "refused":
        named = name in result.said
        return named, "run dies, file named" if named else "run dies, file not named"
    words = {
        "replaced": "replaced by the next image and its label"
        + (", with a warning" if name in result.said else ", in silence"),
        "left out": "left out in silence",
        "read": "read as if whole",
        "died": "process dies",
    }
    return False, words[result.kind]


def no_images(bench: Bench) -> Result:
    """11: files that are no images."""
    variants = []
    for name, held in (
        ("empty.png", b""), ("text.jpg", b"no image\n"), ("page.jpg", b"<html>404</html>"),
    ):  # fmt: skip
        variants.append(Variant(name, *refusal(read(bench, name, held), name)))
    world = bench.fresh("world")
    for kind in "ab":
        (world / "train" / kind).mkdir(parents=True)
        Image.new("RGB", (SIDE, SIDE), (9, 9, 9)).save(world / "train" / kind / "x.png")
    (world / "train" / "a" / "folder.jpg").mkdir()
    result = look(bench, world, count=2)
    variants.append(Variant("a folder named x.jpg", result.kind == "read", f"folder {result.kind}"))
    return Result(counted(variants), variants)


def photograph(side: int = 96) -> Image.Image:
    numbers = np.random.default_rng(3)
    small = Image.fromarray(numbers.integers(0, 255, (8, 8, 3), dtype=np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def damaged_images(bench: Bench) -> Result:
    """12: images cut at 1, 25, 50 and 99 %, and one flipped byte."""
    variants = []
    for kind, ending in (("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp")):
        if ending not in bench.peer.reads:
            variants.append(Variant(f"{kind}", None, "not a format of this peer"))
            continue
        held = encoded(photograph(), kind)
        for share in (1, 25, 50, 99):
            name = f"cut{ending}"
            result = read(bench, name, held[: max(1, len(held) * share // 100)])
            _, remark = refusal(result, name)
            noticed = result.kind == "refused"
            variants.append(Variant(f"{kind} cut at {share} %", noticed, remark))
        for share in (60, 80):
            flipped = bytearray(held)
            flipped[len(held) * share // 100] ^= 16
            result = read(bench, f"flip{ending}", bytes(flipped))
            _, remark = refusal(result, f"flip{ending}")
            noticed = result.kind == "refused"
            variants.append(Variant(f"{kind} flipped at {share} %", noticed, remark))
    return Result(counted(variants), variants)


def wrong_endings(bench: Bench) -> Result:
    """13: the ending says another format than the content."""
    variants = []
    plain = Image.new("RGB", (SIDE, SIDE), (200, 20, 90))
    for name, kind in (
        ("png.JPEG", "PNG"), ("webp.png", "WEBP"), ("bmp.jpg", "BMP"), ("gif.jpg", "GIF"),
        ("UPPER.PNG", "PNG"), ("no_ending", "PNG"),
    ):  # fmt: skip
        options = {"lossless": True} if kind == "WEBP" else {}
        result = read(bench, name, encoded(plain, kind, **options))
        right = result.values is not None and near(result, (200, 20, 90), 1)
        good = result.kind == "read" and right
        remark = "read rightly" if good else refusal(result, name)[1]
        variants.append(Variant(name, good, remark))
    return Result(counted(variants), variants)


def near(result: Read, colour: tuple[int, int, int], most: float) -> bool:
    assert result.values is not None
    middle = result.values["middle"]
    return max(abs(a - b) for a, b in zip(middle, colour, strict=True)) <= most


def colour_modes(bench: Bench) -> Result:
    """14: modes that are not RGB: alpha over white, palettes applied, CMYK converted."""
    hidden = Image.new("RGBA", (SIDE, SIDE), (255, 0, 0, 0))
    grey_hidden = Image.new("LA", (SIDE, SIDE), (40, 0))
    half = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 128))
    palette = Image.new("P", (SIDE, SIDE), 1)
    palette.putpalette([0, 0, 0, 30, 140, 250] + [0] * 762)
    clear = Image.new("P", (SIDE, SIDE), 1)
    clear.putpalette([0, 0, 0, 255, 0, 0] + [0] * 762)
    cases: list[tuple[str, str, bytes, tuple[int, int, int], float]] = [
        ("RGBA, clear", "a.png", encoded(hidden, "PNG"), (255, 255, 255), 1),
        ("RGBA, half clear", "a.png", encoded(half, "PNG"), (127, 127, 127), 1),
        ("LA, clear", "a.png", encoded(grey_hidden, "PNG"), (255, 255, 255), 1),
        ("P, clear", "a.png", encoded(clear, "PNG", transparency=1), (255, 255, 255), 1),
        ("P", "a.png", encoded(palette, "PNG"), (30, 140, 250), 1),
        ("L", "a.png", encoded(Image.new("L", (SIDE, SIDE), 77), "PNG"), (77, 77, 77), 1),
        ("1", "a.png", encoded(Image.new("1", (SIDE, SIDE), 1), "PNG"), (255, 255, 255), 1),
        ("CMYK", "a.jpg", encoded(Image.new("CMYK", (SIDE, SIDE), (255, 0, 0, 0)), "JPEG"),
         (0, 255, 255), 8),
        ("L JPEG", "a.jpg", encoded(Image.new("L", (SIDE, SIDE), 77), "JPEG"), (77, 77, 77), 2),
    ]  # fmt: skip
    variants = []
    for title, name, held, colour, most in cases:
        result = read(bench, name, held)
        good = result.kind == "read" and near(result, colour, most)
        got = [int(v) for v in result.values["middle"]] if result.values else result.kind
        remark = "read rightly" if good else f"{got} in place of {list(colour)}"
        variants.append(Variant(title, good, remark))
    wrong = "; ".join(f"{one.name}: {one.remark}" for one in variants if not one.good)
    good_ones = sum(bool(one.good) for one in variants)
    return Result(
        f"{good_ones} of {len(variants)} rightly" + (f"; {wrong}" if wrong else ""), variants
    )


def _png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, held: bytes) -> bytes:
        return (
            struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9))
            + chunk(b"IEND", b""))  # fmt: skip


def deep_images(bench: Bench) -> Result:
    """15: 16 bits and floats a value: scaled, not clipped."""
    ramp = np.linspace(0, 65535, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)
    colour = np.repeat(ramp[..., None], 3, 2)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colour)
    floats = Image.fromarray(np.linspace(0, 1, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE))
    cases = [
        ("16-bit grey PNG", "a.png", encoded(Image.fromarray(ramp), "PNG")),
        ("16-bit RGB PNG", "a.png", _png(SIDE, SIDE, 16, 2, rows)),
        ("16-bit TIFF", "a.tiff", encoded(Image.fromarray(ramp), "TIFF")),
        ("float32 TIFF", "a.tiff", encoded(floats, "TIFF")),
    ]
    variants = []
    for title, name, held in cases:
        if Path(name).suffix not in bench.peer.reads:
            variants.append(Variant(title, None, "not a format of this peer"))
            continue
        result = read(bench, name, held)
        values = result.values
        if values is None:
            variants.append(Variant(title, result.kind == "refused", result.kind))
            continue
        good = 120 < values["mean"] < 135 and values["white"] < 0.02
        remark = f"{values['white']:.1%} white, mean {values['mean']:.0f} of 127"
        variants.append(Variant(title, good, remark))
    shown = [f"{one.name}: {one.remark}" for one in variants if one.good is not None]
    return Result("; ".join(shown), variants)


def orientations(bench: Bench) -> Result:
    """16: the eight EXIF orientations of one image give one tensor; broken EXIF is passed over."""
    array = np.zeros((SIDE, SIDE, 3), np.uint8)
    array[:12, :20] = (250, 40, 10)
    image = Image.fromarray(array)
    turned = {
        1: image, 2: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: image.transpose(Image.Transpose.ROTATE_180),
        4: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: image.transpose(Image.Transpose.TRANSPOSE),
        6: image.transpose(Image.Transpose.ROTATE_90),
        7: image.transpose(Image.Transpose.TRANSVERSE),
        8: image.transpose(Image.Transpose.ROTATE_270),
    }  # fmt: skip
    variants, first = [], None
    for number, stored in turned.items():
        exif = Image.Exif()
        exif[0x0112] = number
        values = read(bench, "a.png", encoded(stored, "PNG", exif=exif)).values
        first = first or (values or {}).get("digest")
        good = values is not None and values["digest"] == first
        variants.append(Variant(str(number), good, "equal" if good else "not turned"))
    for name, exif_bytes in (("broken", b"Exif\0\0MM\0*\xff\xff\xff\xff"), ("empty", b"Exif\0\0")):
        result = read(bench, "a.jpg", encoded(image, "JPEG", exif=exif_bytes))
        good = result.kind == "read"
        variants.append(Variant(f"{name} EXIF", good, f"{name} EXIF {result.kind}"))
    return Result(counted(variants), variants)


def animations(bench: Bench) -> Result:
    """17: files with more than one image: the first one."""
    pages = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ((200, 0, 0), (0, 0, 200))]
    variants = []
    for name, kind in (("a.gif", "GIF"), ("a.png", "PNG"), ("a.webp", "WEBP"), ("a.tiff", "TIFF")):
        if Path(name).suffix not in bench.peer.reads:
            variants.append(Variant(kind, None, "not a format of this peer"))
            continue
        options = {"lossless": True} if kind == "WEBP" else {}
        held = encoded(pages[0], kind, save_all=True, append_images=pages[1:], **options)
        result = read(bench, name, held)
        good = result.values is not None and near(result, (200, 0, 0), 2)
        variants.append(Variant(kind, good, "first image" if good else result.kind))
    return Result(counted(variants), variants)


def sizes(bench: Bench) -> Result:
    """18: huge images are refused from the header; thin and tiny ones are handled in 300 MB."""
    base = read(bench, "a.png", encoded(Image.new("RGB", (SIDE, SIDE)), "PNG")).peak_mb
    variants = []
    for title, width, height, real in (
        ("60000² header", 60000, 60000, False), ("14000²", 14000, 14000, True),
        ("12000²", 12000, 12000, True), ("1x1", 1, 1, True), ("1x30000", 1, 30000, True),
        ("30000x1", 30000, 1, True),
    ):  # fmt: skip
        rows = (b"\0" + bytes((width + 7) // 8)) * height if real else b"\0" * 100
        result = read(bench, "a.png", _png(width, height, 1, 0, rows))
        more = result.peak_mb - base
        if width * height > 64e6:
            good = result.kind == "refused" and more < 300
        else:
            good = result.kind == "read" and more < 300
        variants.append(Variant(title, good, f"{result.kind}, {max(more, 0):.0f} MB more"))
    return Result("; ".join(f"{one.name}: {one.remark}" for one in variants), variants)
