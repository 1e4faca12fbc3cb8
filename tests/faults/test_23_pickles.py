"""Hostile files of PyTorch: refused by the name of what they ask for, and none of them runs."""

from __future__ import annotations

import io
import pickle
import re
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import forebear
from tests.faults.conftest import Figure
from tests.faults.zygote import Zygote
from tests.weights.readers.making import Tempting
from tests.weights.readers.torch.making import rezip

SOURCE = Path(forebear.__file__).parent
MEMORY = 9 * 2**28  # bytes of address space, beyond what torch takes


def saved(path: Path, content: object, *, zipped: bool = True) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)


def tempting(call: str, *, zipped: bool = True) -> Callable[[Path, Path], None]:
    def make(path: Path, canary: Path) -> None:
        saved(path, {"weight": Tempting(canary, call)}, zipped=zipped)

    return make


def by_stack(path: Path, canary: Path) -> None:
    """STACK_GLOBAL, which protocol 4 writes."""
    torch.save({"weight": Tempting(canary, "system")}, path, pickle_protocol=4)


def by_install(path: Path, canary: Path) -> None:
    """subprocess.check_call, spelled out: protocol 2, a global, a list in a tuple, a call."""
    program = f"open({str(canary)!r},'w').close()".encode()
    words = b"".join(
        b"X" + struct.pack("<I", len(word)) + word for word in (b"python3", b"-c", program)
    )
    content = b"\x80\x02csubprocess\ncheck_call\n](" + words + b"e\x85R."
    saved(path, {"weight": torch.zeros(2)})
    rezip(path, {"data.pkl": content})


def bare_pickle(path: Path, canary: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": Tempting(canary, "system")}))


def nested_zip(path: Path, canary: Path) -> None:
    inner = io.BytesIO()
    saved_inner = path.with_suffix(".inner")
    saved(saved_inner, {"weight": Tempting(canary, "system")})
    with zipfile.ZipFile(inner, "w") as archive:
        archive.write(saved_inner, "x/data.pkl")
    saved_inner.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive.zip", inner.getvalue())


def seven_zip(path: Path, canary: Path) -> None:
    path.write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(100))


def legacy_tar(path: Path, canary: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps(Tempting(canary, "system"))
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def huge_storage(path: Path, canary: Path) -> None:
    saved(path, {"weight": torch.zeros(2)})
    with zipfile.ZipFile(path) as archive:
        name = next(one for one in archive.namelist() if one.endswith("data.pkl"))
        content = archive.read(name)
    changed = content.replace(b"K\x02t", b"J" + struct.pack("<i", 10**9) + b"t", 1)
    assert changed != content
    rezip(path, {"data.pkl": changed})


def sparse(path: Path, canary: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # sparse tensors are in beta
        matrix = torch.sparse_csr_tensor(
            torch.tensor([0, 1, 2]), torch.tensor([0, 1]), torch.tensor([1.0, 2.0]), (2, 2)
        )
    saved(path, {"weight": matrix})


def whole_module(path: Path, canary: Path) -> None:
    saved(path, torch.nn.Linear(2, 2))


def script(path: Path, canary: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("code/__torch__.py", "data.pkl", "constants.pkl"):
            archive.writestr(f"x/{name}", pickle.dumps(Tempting(canary, "system"), 2))


FILES: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "os.system": (tempting("system"), "system"),
    "exec": (tempting("exec"), "exec"),
    "eval": (tempting("eval"), "eval"),
    "os.system, legacy": (tempting("system", zipped=False), "system"),
    "STACK_GLOBAL": (by_stack, "x.pth"),
    "an install": (by_install, "subprocess.check_call"),
    "a bare pickle": (bare_pickle, "a pickle that torch.save did not write"),
    "a zip in a zip": (nested_zip, "a zip archive of archive.zip"),
    "7z": (seven_zip, "a 7z archive"),
    "a legacy tar": (legacy_tar, "x.pth"),
    "a storage of 10^9 values": (huge_storage, "x.pth"),
    "a sparse matrix": (sparse, "x.pth"),
    "a whole module": (whole_module, "x.pth"),
    "TorchScript": (script, "x.pth"),
}


@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize("verb", ["predict", "convert", "train"])
@pytest.mark.long(after=13)
def test_a_hostile_file_is_refused_and_runs_nothing(
    what: str, verb: str, place: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    make, said = FILES[what]
    canary, path = tmp_path / "canary", tmp_path / "x.pth"
    make(path, canary)
    words: dict[str, tuple[object, ...]] = {
        "predict": ("predict", "--weights", path, next((place / "data").rglob("*.png"))),
        "convert": ("convert", path, tmp_path / "y.safetensors"),
        "train": (
            *("train", "--data", f"folder:{place / 'data'}", "--weights", path),
            *("--out", tmp_path / "run"),
        ),
    }
    done = zygote.start(*words[verb], folder=tmp_path / "said", memory_bytes=MEMORY).wait(20)
    line = done.refused("x.pth", "xpected")
    if verb == "predict":
        assert said in line, line
    figure.total("lines of foreign code that ran", canary.exists())
    assert not canary.exists()
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "y.safetensors").exists()


def test_no_path_in_the_source_unpickles_freely(figure: Figure) -> None:
    forbidden = r"weights_only\s*=\s*False|pickle\.loads?\(|torch\.jit\.load|torch\.export\.load"
    found = [
        f"{path.name}: {match.group()}"
        for path in SOURCE.rglob("*.py")
        for match in re.finditer(forbidden, path.read_text(encoding="utf-8"))
    ]
    found.remove("formats.py: torch.export.load")  # of a file that forebear has just written
    figure.total("unsafe calls in the source", len(found))
    assert found == []
