"""Cases 23 to 25: files made to run code, to crash a reader, or to write outside a folder."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from peer_faults.bench import NO_FEATURE, Bench, Result, Variant, said
from peer_faults.children import Limits, ask
from peer_faults.inputs import counted
from peer_faults.peers import Keras, Timm, TorchVision


class Runs:
    """Pickles as a call."""

    def __init__(self, call: Callable[..., Any], *words: Any) -> None:
        self.call, self.words = call, words

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call, self.words


def _canary(bench: Bench) -> Path:
    return bench.place / "canary"


def _pickles(bench: Bench, folder: Path) -> dict[str, Path]:
    """Files that run a command when they are unpickled without care. Called in a child."""
    import torch

    line = f"touch {_canary(bench)}"
    code = f"open({str(_canary(bench))!r}, 'w').close()"
    weights = {"fc.weight": torch.zeros(6, 512)}
    held: dict[str, Any] = {
        "os.system": Runs(os.system, line),
        "exec": Runs(exec, code),
        "in a state_dict": {"state_dict": weights | {"fc.bias": Runs(os.system, line)},
                            "model": weights | {"fc.bias": Runs(os.system, line)}},
        "in args": {"state_dict": weights, "model": weights, "optimizer": {}, "epoch": 0,
                    "args": Runs(os.system, line)},
    }  # fmt: skip
    folder.mkdir()
    files = {}
    for name, value in held.items():
        files[f"zip, {name}"] = folder / f"{len(files)}.pth"
        torch.save(value, files[f"zip, {name}"])
    files["legacy file"] = folder / "legacy.pth"
    torch.save(held["os.system"], files["legacy file"], _use_new_zipfile_serialization=False)
    files["bare pickle"] = folder / "bare.pth"
    files["bare pickle"].write_bytes(pickle.dumps(held["exec"], protocol=4))
    files["TorchScript"] = folder / "script.pth"
    torch.jit.script(torch.nn.ReLU()).save(str(files["TorchScript"]))
    return files


def hostile_pickles(bench: Bench, words: str = "--resume") -> Result:
    """23: pickles that run code, given as checkpoints."""
    folder, variants = bench.fresh("world"), []
    found, ended = ask(lambda: {k: str(v) for k, v in _pickles(bench, folder).items()})
    if found is None:
        raise RuntimeError(ended.log)
    keras = isinstance(bench.peer, Keras)
    ways: dict[str, tuple[str, ...]] = {"resumed": ("--weights",) if keras else ("--resume",)}
    if isinstance(bench.peer, Timm):
        ways["initial"] = ("--initial-checkpoint",)
    for way, flags in ways.items():
        for name, file in found.items():
            given = Path(file)
            if keras:
                given = Path(shutil.copy(given, given.with_suffix(".weights.h5")))
            variants.append(_tried(bench, f"{name}, {way}", (*flags, str(given))))
    if isinstance(bench.peer, TorchVision):
        import hashlib

        train = str(bench.data / "train")
        name = hashlib.sha1(train.encode()).hexdigest()[:10] + ".pt"
        cache = bench.place / ".torch/vision/datasets/imagefolder" / name
        cache.parent.mkdir(parents=True)
        shutil.copy(found["zip, os.system"], cache)
        variants.append(_tried(bench, "cache of --cache-dataset", ("--cache-dataset",)))
        shutil.rmtree(bench.place / ".torch")
    return Result(counted(variants), variants)


def _tried(bench: Bench, name: str, words: tuple[str, ...]) -> Variant:
    _canary(bench).unlink(missing_ok=True)
    ended = bench.go(bench.training(epochs=1, more=words))
    if _canary(bench).exists():
        return Variant(name, False, "runs the file's code")
    if ended.code == 0:
        return Variant(name, False, "accepted in silence")
    told = said(
        ended, r"posix\.system|builtins\.exec|nt\.system|TorchScript|not.*(archive|hdf5|h5)"
    )
    return Variant(name, True, "refused, the global named" if told else "refused")


def _safetensors() -> dict[str, bytes]:
    def made(header: Any, data: bytes, length: int | None = None) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text) if length is None else length) + text + data

    one = {"fc.bias": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}}
    data = bytes(24)
    whole = made(one, data)

    def tensor(**changes: Any) -> dict[str, Any]:
        return {"fc.bias": one["fc.bias"] | changes}

    two = json.dumps(one["fc.bias"])
    return {
        "cut": whole[:-5], "one byte more": whole + b"\0", "header of 2^40": made(one, data, 2**40),
        "no JSON": made(b"{{{{", data), "hole": made(tensor(data_offsets=[8, 32]), bytes(32)),
        "offsets outside": made(tensor(data_offsets=[0, 2400], shape=[600]), data),
        "negative shape": made(tensor(shape=[-6]), data),
        "huge shape": made(tensor(shape=[2**62, 2**62]), data),
        "a name twice": made(f'{{"fc.bias": {two}, "fc.bias": {two}}}'.encode(), data),
        "deep JSON": made(b"[" * 100_000, data), "unknown type": made(tensor(dtype="X9"), data),
    }  # fmt: skip


def malformed(bench: Bench) -> Result:
    """24: malformed safetensors, .h5 and .keras files, and mutations of whole ones."""
    if isinstance(bench.peer, TorchVision):
        return Result("the script reads none of these formats", word=NO_FEATURE)
    return _malformed_keras(bench) if isinstance(bench.peer, Keras) else _malformed_timm(bench)


def _outcome(reads: Callable[[], Any], name: str) -> Variant:
    _, ended = ask(reads, limits=Limits(memory=8 << 30))
    if ended.code < 0:
        return Variant(name, False, f"process dies with signal {-ended.code}")
    if ended.timed_out:
        return Variant(name, False, "hangs")
    return Variant(name, ended.code != 0, "refused" if ended.code else "accepted in silence")


def _mutations(bench: Bench, whole: bytes, ending: str, reads: Callable[[str], Any],
               count: int) -> Variant:  # fmt: skip
    numbers, deaths, at = random.Random(0), 0, 0
    progress = bench.fresh("log")
    file = bench.fresh("log").with_suffix(ending)
    mutants = []
    for _ in range(count):
        held = bytearray(whole)
        for _ in range(numbers.randint(1, 8)):
            held[numbers.randrange(min(len(held), 4096))] = numbers.randrange(256)
        mutants.append(bytes(held))

    def work(start: int) -> None:
        for number in range(start, count):
            progress.write_text(str(number))
            file.write_bytes(mutants[number])
            try:
                reads(str(file))
            except Exception:
                continue
        progress.write_text(str(count))

    while at < count:
        ask(partial(work, at), limits=Limits(memory=8 << 30))
        reached = int(progress.read_text())
        if reached >= count:
            break
        deaths, at = deaths + 1, reached + 1
    remark = f"{count} mutations, {deaths} deaths or hangs"
    return Variant(f"{count} mutations", deaths == 0, remark)


def _malformed_timm(bench: Bench) -> Result:
    def reads(path: str) -> None:
        from timm.models import load_state_dict

        load_state_dict(path)

    variants = []
    for name, held in _safetensors().items():
        file = bench.fresh("log").with_suffix(".safetensors")
        file.write_bytes(held)
        variants.append(_outcome(partial(reads, str(file)), name))
    whole = struct.pack("<Q", 200)
    values = {f"t{n}": {"dtype": "F32", "shape": [6], "data_offsets": [24 * n, 24 * n + 24]}
              for n in range(8)}  # fmt: skip
    text = json.dumps(values).encode()
    whole = struct.pack("<Q", len(text)) + text + bytes(24 * 8)
    variants.append(_mutations(bench, whole, ".safetensors", reads, 1000))
    return Result(counted(variants), variants)


def _keras_files(bench: Bench, folder: Path) -> dict[str, str]:
    """Model files that run code when they are loaded without care. Called in a child."""
    import keras

    folder.mkdir()
    target = str(_canary(bench))

    def call(x: Any) -> Any:
        import pathlib

        pathlib.Path(target).touch()
        return x

    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Lambda(call, output_shape=(4,))(inputs))
    files = {"Lambda in .keras": folder / "a.keras", "Lambda in .h5": folder / "a.h5"}
    for file in files.values():
        model.save(file)
    _canary(bench).unlink(missing_ok=True)
    plain = keras.Model(inputs, keras.layers.Dense(2, name="dense")(inputs))
    plain.save(folder / "plain.keras")
    for name, module, kind, words in (
        ("os.system as a layer", "os", "system", {"command": f"touch {target}"}),
        ("builtins.exec as a layer", "builtins", "exec", {"source": f"open({target!r},'w')"}),
        ("get_file as a layer", "keras.utils", "get_file",
         {"fname": target, "origin": "file:///etc/hostname"}),
    ):  # fmt: skip
        files[name] = folder / f"{len(files)}.keras"
        with (
            zipfile.ZipFile(folder / "plain.keras") as old,
            zipfile.ZipFile(files[name], "w") as new,
        ):
            for item in old.namelist():
                held = old.read(item)
                if item == "config.json":
                    config = json.loads(held)
                    config["config"]["layers"][1] |= {
                        "module": module, "class_name": kind, "config": words,
                    }  # fmt: skip
                    held = json.dumps(config).encode()
                new.writestr(item, held)
    plain.save_weights(folder / "plain.weights.h5")
    return {name: str(file) for name, file in files.items()}


def _malformed_keras(bench: Bench) -> Result:
    folder, variants = bench.fresh("world"), []
    found, ended = ask(partial(_keras_files, bench, folder))
    if found is None:
        raise RuntimeError(ended.log)

    def loads(path: str) -> None:
        import keras

        model = keras.saving.load_model(path)
        model(np.zeros((1, 4), np.float32))

    for name, file in found.items():
        _canary(bench).unlink(missing_ok=True)
        one = _outcome(partial(loads, file), name)
        if _canary(bench).exists():
            one = Variant(name, False, "runs the file's code")
        variants.append(one)

    def weights(path: str) -> None:
        import keras

        inputs = keras.Input((4,))
        keras.Model(inputs, keras.layers.Dense(2, name="dense")(inputs)).load_weights(path)

    whole = (folder / "plain.weights.h5").read_bytes()
    for name, held in (("h5 cut", whole[: len(whole) // 2]), ("h5 empty", b"")):
        file = bench.fresh("log").with_suffix(".weights.h5")
        file.write_bytes(held)
        variants.append(_outcome(partial(weights, str(file)), name))
    variants.append(_mutations(bench, whole, ".weights.h5", weights, 400))
    return Result(counted(variants), variants)


def _archives(folder: Path, outside: Path) -> dict[str, Path]:
    """Archives that try to write to `outside`."""

    def tar(name: str, members: list[tuple[str, bytes, str]]) -> Path:
        path = folder / f"{name.replace(' ', '_').replace('/', '')}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for member, kind, held in members:
                info = tarfile.TarInfo(member)
                info.type = kind
                data = b"" if kind != tarfile.REGTYPE else held.encode()
                info.size = len(data)
                info.linkname = "" if kind == tarfile.REGTYPE else held
                archive.addfile(info, io.BytesIO(data))
        return path

    folder.mkdir(parents=True, exist_ok=True)
    up = os.path.relpath(outside, folder)
    plain = tarfile.REGTYPE
    found = {
        "tar ../": tar("tar ../", [(f"../../../../../../../..{outside}/a", plain, "x")]),
        "tar absolute": tar("tar absolute", [(f"{outside}/b", plain, "x")]),
        "tar link": tar("tar link", [("l", tarfile.SYMTYPE, str(outside)), ("l/c", plain, "x")]),
        "tar hard link": tar("tar hard link", [("h", tarfile.LNKTYPE, f"{outside}/keep"),
                                               ("h", plain, "changed")]),
        "tar fifo": tar("tar fifo", [("f", tarfile.FIFOTYPE, "")]),
    }  # fmt: skip
    found["zip ../"] = folder / "zip.zip"
    with zipfile.ZipFile(found["zip ../"], "w") as archive:
        archive.writestr(f"{up}/d", "x")
        archive.writestr(f"../../../../../../../..{outside}/e", "x")
    return found


def _extracted(bench: Bench, name: str, archive: Path, outside: Path,
               extract: Callable[[], Any], target: Path) -> Variant:  # fmt: skip
    shutil.rmtree(outside, ignore_errors=True)
    outside.mkdir()
    (outside / "keep").write_text("mine")
    _, ended = ask(extract)
    escaped = [path.name for path in outside.iterdir() if path.name != "keep"]
    escaped += ["keep"] if (outside / "keep").read_text() != "mine" else []
    if escaped:
        return Variant(name, False, "writes outside the folder")
    fifo = any(not (p.is_file() or p.is_dir()) or p.is_symlink() for p in target.rglob("*"))
    if fifo:
        return Variant(name, False, "makes a special file or a link")
    return Variant(name, True, "refused" if ended.code else "written inside, or left out")


def traversal(bench: Bench) -> Result:
    """25: archives that try to write outside their folder, and downloads that are not whole."""
    world = bench.fresh("world")
    outside = world / "outside"
    variants = []
    for name, archive in _archives(world / "archives", outside).items():
        target = world / f"target{len(variants)}"
        target.mkdir()
        extract = partial(_extract, bench.peer.name, archive, target)
        if isinstance(bench.peer, Timm) and not name.startswith("tar"):
            continue
        variants.append(_extracted(bench, name, archive, outside, extract, target))
    if isinstance(bench.peer, TorchVision):
        note = f"the script extracts nothing; torchvision's extract_archive: {counted(variants)}"
        return Result(note, variants, word=NO_FEATURE)
    if isinstance(bench.peer, Timm):
        return Result(f"reads tar archives without extracting them: {counted(variants)}", variants)
    file = world / "file.bin"
    file.write_bytes(b"content")
    _, ended = ask(partial(_fetch_wrong_hash, file, world / "cache"))
    kept = list((world / "cache").rglob("file.bin"))
    good = ended.code != 0 and not kept
    remark = f"{'refused' if ended.code else 'accepted'}, {'kept on disk' if kept else 'not kept'}"
    variants.append(Variant("wrong hash", good, remark))
    return Result(counted(variants), variants)


def _extract(peer: str, archive: Path, target: Path) -> None:
    if peer == "Keras":
        import keras

        keras.utils.get_file(
            archive.name, origin=archive.as_uri(), extract=True, cache_dir=str(target)
        )
    elif peer == "timm":
        from timm.data.readers import create_reader

        plain = archive.with_suffix("")  # timm reads .tar
        with tarfile.open(archive) as old, tarfile.open(plain, "w") as new:
            for member in old.getmembers():
                new.addfile(member, old.extractfile(member) if member.isreg() else None)
        os.chdir(target)
        reader = create_reader("", str(plain))
        for number in range(len(reader)):
            reader[number][0].read()
    else:
        from torchvision.datasets.utils import extract_archive

        extract_archive(str(archive), str(target))


def _fetch_wrong_hash(file: Path, cache: Path) -> None:
    import keras

    keras.utils.get_file(file.name, origin=file.as_uri(), file_hash="0" * 64, cache_dir=str(cache))
