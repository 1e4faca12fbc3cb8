"""forebear check: what it counts, what it names, and how it exits."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forebear.cli.main import main
from tests.cli import making


def words(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def parts(path: Path, count: int = 5) -> Path:
    """train and val with three classes each; no two images are alike."""
    making.folder(path / "train", count)
    making.folder(path / "all", count + 2)
    for kind in making.CLASSES:
        (path / "val" / kind).mkdir(parents=True)
        for seed in (count, count + 1):
            name = f"{seed}.png"
            shutil.move(path / "all" / kind / name, path / "val" / kind / name)
    shutil.rmtree(path / "all")
    return path


def jpeg(image: Image.Image, **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def test_a_sound_set_is_counted_and_exits_with_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", f"folder:{parts(tmp_path / 'set')}"]) == 0
    printed = capsys.readouterr()
    lines = words(printed.out)
    assert lines[:6] == [
        "train: 15 images in 3 classes from train/; validation: 6 from val/",
        "",
        "class train val",
        "across 5 2",
        "down 5 2",
        "grey 5 2",
    ]
    assert "images 15 training, 6 validation" in lines
    assert "pixels smallest 16 x 16, median 16 x 16, largest 16 x 16" in lines
    assert "formats PNG 21" in lines
    assert lines[-1].startswith("all 21 images can be used (")
    assert lines[-1].endswith("images/s)")
    assert printed.err == ""


def test_four_bad_files_are_counted_and_named_and_exit_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = parts(tmp_path / "set", 14)
    whole = jpeg(Image.fromarray(making.image(0, 99, 64)))
    bad = {"0.png": b"", "1.png": b"words", "2.png": b"<html></html>", "3.png": whole[:-400]}
    for name, content in bad.items():
        (root / "train" / "down" / name).write_bytes(content)
    assert main(["check", f"folder:{root}"]) == 1
    lines = words(capsys.readouterr().out)
    assert lines[-1].startswith("4 of 48 images cannot be used")
    assert "4 cannot be used" in lines
    for name, reason in (
        ("0.png", "the file is empty"),
        ("1.png", "not an image"),
        ("2.png", "not an image"),
        ("3.png", "cannot be decoded (image file is truncated"),
    ):
        assert any(f"down/{name}: {reason}" in line for line in lines), name


def test_what_is_odd_is_listed_by_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = parts(tmp_path / "set")
    place = root / "train" / "grey"
    image = Image.fromarray(making.image(2, 50, 20))
    exif = Image.Exif()
    exif[274] = 6
    (place / "a.jpg").write_bytes(jpeg(image, exif=exif))
    (place / "b.jpg").write_bytes(jpeg(image.convert("CMYK")))
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20)).save(place / "c.png")
    image.save(place / "d.gif", save_all=True, append_images=[image.rotate(90)])
    image.save(place / "e.jpeg", "PNG")
    image.save(place / "f.JPEG", "JPEG")
    assert main(["check", f"folder:{root}"]) == 0
    lines = words(capsys.readouterr().out)
    for kind, name in (
        ("1 turned by EXIF", "a.jpg"),
        ("1 CMYK", "b.jpg"),
        ("1 more than 8 bits", "c.png"),
        ("1 animated or paged", "d.gif"),
        ("1 named as another format", "e.jpeg"),
    ):
        assert lines[lines.index(kind) + 1] == f"{place / name} (train, grey)"
    assert "formats PNG 23, JPEG 3, GIF 1" in lines
    assert "modes RGB 24, CMYK 1, I;16 1, P 1" in lines


def test_copies_are_found_across_parts_and_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = parts(tmp_path / "set")
    shutil.copy(root / "train/down/0.png", root / "val/down/copy.png")
    shutil.copy(root / "train/down/1.png", root / "train/grey/copy.png")
    shutil.copy(root / "train/down/2.png", root / "train/down/copy.png")
    assert main(["check", f"folder:{root}"]) == 0
    lines = words(capsys.readouterr().out)
    assert "copies 6 images share 3 contents" in lines
    at = lines.index("1 copies across parts, which inflate accuracy")
    assert lines[at + 1 : at + 3] == [
        f"{root}/train/down/0.png (train, down)",
        f"{root}/val/down/copy.png (val, down)",
    ]
    at = lines.index("1 copies under different classes")
    assert lines[at + 2] == f"{root}/train/grey/copy.png (train, grey)"


def test_the_manifest_has_a_line_an_image(tmp_path: Path) -> None:
    root = parts(tmp_path / "set")
    (root / "train/down/0.png").write_bytes(b"words")
    file = tmp_path / "set.jsonl"
    assert main(["check", f"folder:{root}", "--manifest", str(file)]) == 1
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == 21
    content = (root / "train/across/0.png").read_bytes()
    assert rows[0] == {
        "name": str(root / "train/across/0.png"),
        "part": "train",
        "label": "across",
        "group": None,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "width": 16,
        "height": 16,
        "mode": "RGB",
        "format": "PNG",
        "bits": 8,
        "frames": 1,
        "orientation": 1,
        "lowest": None,
        "highest": None,
        "error": None,
    }
    broken = rows[5]
    assert (broken["name"], broken["bytes"]) == (str(root / "train/down/0.png"), 5)
    assert broken["width"] is None
    assert "not an image" in broken["error"]


def test_arrays_have_no_files_and_a_class_may_be_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 5), dtype=np.uint8)
    np.savez(
        tmp_path / "x.npz",
        x_train=pixels,
        y_train=np.array([0, 0, 2, 2]),
        x_test=pixels[:1],
        y_test=np.array([0]),
        classes=np.array(["a", "b\n", "c"]),
    )
    assert main(["check", f"npz:{tmp_path / 'x.npz'}"]) == 0
    lines = words(capsys.readouterr().out)
    assert lines[3:6] == ["a 2 1", "'b\\n' 0 0", "c 2 0"]
    assert "empty 1 classes have no training images" in lines
    assert any(line.startswith("1 copies across parts") for line in lines)


def test_of_many_classes_only_the_smallest_and_the_largest_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.repeat(np.arange(60), np.arange(1, 61))
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 2, 2), dtype=np.uint8)
    path = tmp_path / "x.npz"
    np.savez(path, x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    assert main(["check", f"npz:{path}"]) == 0
    lines = words(capsys.readouterr().out)
    assert "... 20 more classes ..." in lines
    assert lines[22] == "19 20 20"
    assert lines[24] == "40 41 41"


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "foldr:x"]) == 2
    assert "Did you mean folder?" in capsys.readouterr().err
    assert main(["check", f"folder:{tmp_path / 'gone'}"]) == 2
    assert "no such folder" in capsys.readouterr().err
    root = parts(tmp_path / "set")
    place = tmp_path / "no" / "such" / "file"
    assert main(["check", f"folder:{root}", "--manifest", str(place)]) == 2
    assert "cannot be written (No such file or directory)" in capsys.readouterr().err


def test_the_range_of_deep_images_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(8):
        values = np.linspace(number, 4095 - number, 64).astype(np.uint16).reshape(8, 8)
        path = tmp_path / "set" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    assert main(["check", f"folder:{tmp_path / 'set'}"]) == 0
    said = "samples 16-bit images use 0 to 4,095 of 65,535; train --sample-range auto scales to"
    assert any(line.startswith(said) for line in words(capsys.readouterr().out))


def test_what_is_no_image_is_counted_and_never_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = making.folder(tmp_path / "set", 8)
    place = root / "grey"
    os.mkfifo(place / "pipe.jpg")
    (place / "zero.jpg").symlink_to("/dev/zero")
    (place / "photo").write_bytes((place / "0.png").read_bytes())
    (place / "x.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(30))
    with (place / "sparse.png").open("wb") as file:
        file.truncate(20 * 2**30)
    assert main(["check", f"folder:{root}"]) == 1
    out = capsys.readouterr().out
    assert "train: 23 images in 3" in out
    assert "3 files skipped: 1 pipe, 1 HEIC, 1 device" in out
    assert "sparse.png: cannot be read (it has 21,474,836,480 bytes, more than the limit" in out
