"""Cases 10, 19, 20: classes, tensors, data sets and folders that are not what they were."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from peer_faults import worlds
from peer_faults.bench import Bench, Result, Variant, said
from peer_faults.children import Ended, ask
from peer_faults.inputs import SIDE, counted
from peer_faults.peers import Keras, Timm

TENSOR = {"torch": "layer1.0.conv1.weight", "keras": "layers/conv2d"}


def _edit_torch(path: Path, how: str) -> None:
    import argparse

    import torch

    with torch.serialization.safe_globals([argparse.Namespace]):
        held = torch.load(path, map_location="cpu", weights_only=True)
    state = held.get("state_dict", held.get("model"))
    name = TENSOR["torch"]
    if how == "missing tensor":
        del state[name]
    elif how == "extra tensor":
        state["extra.weight"] = state[name].clone()
    elif how == "renamed tensor":
        state["layer1.0.conv9.weight"] = state.pop(name)
    else:
        state[name] = state[name][:1].clone()
    path.unlink()
    torch.save(held, path)


def _edit_keras(path: Path, how: str) -> None:
    import h5py

    name = TENSOR["keras"]
    with h5py.File(path, "r+") as held:
        if how == "missing tensor":
            del held[f"{name}/vars/0"]
        elif how == "extra tensor":
            held["layers/extra/vars/0"] = held[f"{name}/vars/0"][()]
        elif how == "renamed tensor":
            held.move(name, "layers/conv9")
        else:
            values = held[f"{name}/vars/0"][()]
            del held[f"{name}/vars/0"]
            held[f"{name}/vars/0"] = values[..., :1]


def classes_and_tensors(bench: Bench) -> Result:
    """10: other class counts, labels and tensors than the checkpoint's: refused and named."""
    keras = isinstance(bench.peer, Keras)
    variants = []
    for how in ("missing tensor", "extra tensor", "renamed tensor", "wrong shape"):
        out = bench.saved(1)
        edit = _edit_keras if keras else _edit_torch
        _, edited = ask(partial(edit, bench.peer.checkpoints(out)[0], how))
        if edited.code:
            raise RuntimeError(edited.log)
        ended = bench.resume(out)
        names = r"conv2d|extra|conv9" if keras else r"layer1\.0\.conv|extra\.weight"
        variants.append(_judged(how, ended, names))
    fewer = worlds.copied(bench.data, bench.fresh("world"))
    for split in ("train", bench.peer.val):
        shutil.rmtree(fewer / split / "red")
    more = ("--num-classes", "5") if isinstance(bench.peer, Timm) else ()
    ended = bench.resume(bench.saved(1), data=fewer, more=more)
    variants.append(_judged("5 classes, checkpoint of 6", ended, r"logits|fc\."))
    few = {"timm": ("--num-classes", "4"), "Keras": ("--classes", "4")}.get(bench.peer.name)
    if few:
        ended = bench.go(bench.training(more=few))
        steps = len(bench.peer.steps(ended.log))
        good = ended.code != 0 and steps == 0
        remark = f"dies after {steps} steps" if ended.code else "trains on"
        variants.append(Variant("6 classes, 4 logits", good, remark))
    else:
        variants.append(Variant("6 classes, 4 logits", None, "counted from the folder"))
    shifted = worlds.copied(bench.data, bench.fresh("world"))
    shutil.rmtree(shifted / bench.peer.val / "across")
    ended = bench.go(bench.training(data=shifted, epochs=1))
    told = said(ended, r"class.*(differ|mismatch|missing|same)")
    good = ended.code != 0 or bool(told)
    remark = "refused" if good else "evaluates with shifted labels in silence"
    variants.append(Variant("validation lacks the first class", good, remark))
    return Result(counted(variants), variants)


def _judged(name: str, ended: Ended, pattern: str) -> Variant:
    lines = [line for line in ended.log.splitlines() if re.search(pattern, line)]
    named = any(
        re.search(r"error|missing|unexpected|mismatch|could not", one, re.I) for one in lines
    )
    if ended.code == 0:
        return Variant(name, False, "loaded in silence")
    return Variant(name, named, "refused, named" if named else f"refused, not named: {ended.short}")


def changed_data(bench: Bench) -> Result:
    """19: the data changed between a stop and a resume: refused, or at least said."""

    def added(data: Path) -> None:
        for number in (1, 2):  # a last batch of one image stops batch norm, for another reason
            shutil.copy(data / "train/across/00.png", data / f"train/across/00{number}.png")

    def removed(data: Path) -> None:
        for number in (1, 2):
            (data / f"train/across/0{number}.png").unlink()

    def edited(data: Path) -> None:
        shutil.copy(data / "train/grey/01.png", data / "train/across/05.png")

    def renamed(data: Path) -> None:
        for split in ("train", bench.peer.val):
            (data / split / "across").rename(data / split / "zigzag")

    def moved(data: Path) -> None:
        (data / "train/across/02.png").rename(data / "train/grey/98.png")

    variants = []
    for edit in (added, removed, edited, renamed, moved):
        data = worlds.copied(bench.data, bench.fresh("world"))
        edit(data)
        ended = bench.resume(bench.saved(1), data=data)
        told = said(ended, r"(data|class|file|image).*(differ|changed|mismatch|other than)")
        good = ended.code != 0 or bool(told)
        remark = told or ("trains on in silence" if ended.code == 0 else ended.short)
        variants.append(Variant(edit.__name__, good, remark))
    return Result(counted(variants), variants)


def _world(bench: Bench, make: Callable[[Path], None]) -> Path:
    world = bench.fresh("world")
    for kind in ("a", "b"):
        (world / "train" / kind).mkdir(parents=True)
        for number in range(2):
            path = world / "train" / kind / f"{number}.png"
            Image.new("RGB", (SIDE, SIDE), (9, 9, 9)).save(path)
    make(world / "train")
    return world


def _scan(bench: Bench, world: Path) -> dict[str, Any]:
    answer: list[dict[str, Any]] = []
    started = time.perf_counter()
    try:
        bench.peer.samples(world, SIDE, answer)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    errors = [one["error"] for one in answer if "error" in one]
    labels = len({one["label"] for one in answer if "label" in one})
    return {"count": len(answer), "labels": labels, "errors": errors,
            "seconds": time.perf_counter() - started}  # fmt: skip


def folders(bench: Bench) -> Result:
    """20: odd folders: empty classes, loops, hidden files, names with escapes."""

    def image(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIDE, SIDE), (9, 9, 9)).save(path)

    layouts: list[tuple[str, Callable[[Path], Any], int, int]] = [
        ("names in unicode", lambda train: image(train / "ça va 猫" / "é 🐈.png"), 5, 3),
        ("a newline in a name", lambda train: image(train / "b" / "x\ny.png"), 5, 2),
        ("a name of 255 bytes", lambda train: image(train / "b" / ("x" * 251 + ".png")), 5, 2),
        ("cases of letters", lambda train: image(train / "B" / "0.png"), 5, 3),
        ("a link that loops", lambda train: (train / "a" / "loop").symlink_to(".."), 4, 2),
        (
            "hidden ._0.png",
            lambda train: (train / "a" / "._0.png").write_bytes(b"\0\5\x16\7"),
            4,
            2,
        ),
        ("hidden folder", lambda train: image(train / ".thumbnails" / "0.png"), 4, 2),
    ]
    variants = []
    for name, make, count, labels in layouts:
        found, ended = ask(partial(_scan, bench, _world(bench, make)))
        if found is None:
            variants.append(Variant(name, False, f"process dies, exit {ended.code}"))
        elif "error" in found:
            variants.append(Variant(name, False, f"{name}: {found['error'][:60]}"))
        else:
            good = (found["count"], found["labels"], found["errors"]) == (count, labels, [])
            remark = (
                "as specified"
                if good
                else (
                    f"{name}: {found['count']} images in {found['labels']} classes in place of "
                    f"{count} in {labels}" + (", and the run dies" if found["errors"] else "")
                )
            )
            variants.append(Variant(name, good, remark))
    found, _ = ask(partial(_scan, bench, _world(bench, lambda train: (train / "c").mkdir())))
    refused = found is not None and "error" in found
    remark = "refused" if refused else "empty class accepted in silence"
    variants.append(Variant("an empty class", refused, remark))
    escape = "\x1b]0;owned\x07"
    data = worlds.copied(bench.data, bench.fresh("world"))
    bad = data / "train" / f"aa{escape}"
    bad.mkdir()
    ended = bench.go(bench.training(data=data, epochs=1))
    (bad / "x.jpg").write_text("no image")
    again = bench.go(bench.training(data=data, epochs=1, more=_seven(bench)))
    raw = escape in ended.log or escape in again.log
    remark = "escape sequence of a class name reaches the terminal" if raw else "escapes kept out"
    variants.append(Variant("ANSI escapes in a class name", not raw, remark))
    return Result(counted(variants), variants)


def _seven(bench: Bench) -> tuple[str, ...]:
    return ("--num-classes", "7") if isinstance(bench.peer, Timm) else ()
