"""Malformed safetensors, npz, HDF5, .keras and ONNX, and random mutations of every format."""

from __future__ import annotations

import json
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import forebear
from tests.faults.conftest import Figure
from tests.faults.zygote import Zygote
from tests.weights.readers.making import Tempting, damaged

MEMORY = 9 * 2**28  # bytes of address space, beyond what torch takes


def header(entries: dict[str, object], data: bytes = bytes(8)) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: list[int], offsets: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


GOOD = header({"a": entry([2], [0, 8])})
SAFETENSORS: dict[str, bytes] = {
    "empty": b"",
    "cut": GOOD[:-3],
    "a byte more": GOOD + b"x",
    "a header of 2^40 bytes": struct.pack("<Q", 2**40) + GOOD[8:],
    "no JSON": struct.pack("<Q", 5) + b"words" + bytes(8),
    "an overlap": header({"a": entry([1], [0, 4]), "b": entry([1], [2, 6])}),
    "a hole": header({"a": entry([1], [4, 8])}),
    "offsets beyond the end": header({"a": entry([99], [0, 396])}),
    "a shape of 2^63": header({"a": entry([2**63, 1], [0, 8])}),
    "an unknown dtype": header({"a": entry([2], [0, 8], "F99")}),
    "deep nesting": struct.pack("<Q", 200_000) + b"[" * 200_000,
}


def refused(path: Path, folder: Path, place: Path, zygote: Zygote) -> str:
    image = next((place / "data").rglob("*.png"))
    words = ("predict", "--weights", path, image)
    return zygote.start(*words, folder=folder, memory_bytes=MEMORY).wait(20).refused(path.name)


@pytest.mark.parametrize("what", SAFETENSORS)
def test_malformed_safetensors_are_refused(
    what: str, place: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    (tmp_path / "x.safetensors").write_bytes(SAFETENSORS[what])
    refused(tmp_path / "x.safetensors", tmp_path / "said", place, zygote)
    figure.count("refused", 1)


def pickled_npz(path: Path, canary: Path) -> None:
    np.savez(path, a=np.array([Tempting(canary, "system")], dtype=object))


def swelling_npz(path: Path, canary: Path) -> None:
    np.savez_compressed(path, a=np.zeros(10**8))


def lambda_keras(path: Path, canary: Path) -> None:
    layer = {"class_name": "Lambda", "config": {"name": "l", "function": ["x", None, None]}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": [layer]}}))
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(200))


def onnx(path: Path, canary: Path) -> None:
    path.write_bytes(b"\x08\x07\x12\x07pytorch" + b"location../../../../etc/passwd")


STRANGERS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "npz with a pickle": ("x.npz", pickled_npz),
    "npz that swells": ("x.npz", swelling_npz),
    ".keras with a Lambda": ("x.keras", lambda_keras),
    "ONNX with data elsewhere": ("x.onnx", onnx),
}


@pytest.mark.parametrize("what", STRANGERS)
@pytest.mark.long(after=1)
def test_other_files_are_refused_and_run_nothing(
    what: str, place: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    name, make = STRANGERS[what]
    make(tmp_path / name, tmp_path / "canary")
    refused(tmp_path / name, tmp_path / "said", place, zygote)
    assert not (tmp_path / "canary").exists()
    figure.count("refused", 1)


def sources(folder: Path) -> dict[str, Path]:
    """A small whole file of each format, which its own writer made."""
    network = forebear.create("paper/resnet20", num_classes=3)
    forebear.save(network, folder / "own.safetensors")
    from forebear.tasks.convert import convert

    found = {"own": folder / "own.safetensors"}
    state = {name: value.clone() for name, value in network.state_dict().items()}
    save_file(state, folder / "plain.safetensors")
    torch.save(state, folder / "x.pth")
    torch.save(state, folder / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("x.ckpt", "x.npz"):
        convert(found["own"], folder / name)
    found |= {name: folder / name for name in ("plain.safetensors", "x.pth", "old.pth", "x.npz")}
    return found | {"index": folder / "x.ckpt.index"}


@pytest.mark.slow
def test_random_mutations_end_in_one_line_or_an_answer(
    place: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    whole = sources(tmp_path)
    rng = random.Random(0)
    image = next((place / "data").rglob("*.png"))
    crashed = hung = 0
    for trial in range(240):
        name, path = rng.choice(sorted(whole.items()))
        changed = tmp_path / f"t{trial}" / path.name
        changed.parent.mkdir()
        changed.write_bytes(damaged(path.read_bytes(), trial))
        if name == "index":
            for data in path.parent.glob("x.ckpt.data*"):
                (changed.parent / data.name).write_bytes(data.read_bytes())
        words = ("predict", "--weights", changed, image)
        done = zygote.start(*words, folder=changed.parent / "said", memory_bytes=MEMORY).wait(20)
        hung += done.code is None
        crashed += done.code not in (0, 2) or "Traceback" in done.stderr
        assert len(done.lines) <= 1, done
        changed.unlink()
    figure.count("mutations ended in one line or an answer", 240 - crashed - hung, 240)
    figure.total("hangs", hung)
    assert (crashed, hung) == (0, 0)
