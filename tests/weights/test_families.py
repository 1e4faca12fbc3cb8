"""Files of other libraries give those libraries' logits.

goldens/families has three of them, of tiny networks: a pickle of Detectron's form, Paddle's
.pdparams (paddlepaddle 3.3.1) and a checkpoint of mmpretrain's form, with the logits that torch
2.13.0, Paddle and torchvision 0.28.0 compute. All others are in ../shared/goldens/families.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import forebear

GOLDENS = Path(__file__).parent / "goldens" / "families"
SHARED = Path(__file__).parents[3] / "shared" / "goldens" / "families"
ENDINGS = (".pth.tar", ".pth", ".ckpt", ".pkl", ".pdparams")
TOLERANCES = {"detectron": 3e-5}  # its logits have size 12
WITHOUT_HEAD = ("dino", "moco", "swav", "no_head")


def logits(network: forebear.Network, images: NDArray[Any]) -> NDArray[Any]:
    given = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    with torch.inference_mode():
        found: NDArray[Any] = network(given).numpy()
    return found


@pytest.mark.parametrize(
    ("name", "dialect", "units"),
    [
        ("detectron_bottleneck.pkl", "detectron", (2, 1, 2, 1)),
        ("paddle_basic.pdparams", "paddle", (2, 1, 1, 1)),
        ("mmpretrain_bottleneck.pth", "torchvision", (1, 2, 1, 1)),
    ],
)
def test_a_file_gives_its_librarys_logits(name: str, dialect: str, units: tuple[int, ...]) -> None:
    network = forebear.load(GOLDENS / name)
    with np.load(GOLDENS / "expected.npz") as expected:
        wanted = expected[name.partition(".")[0]]
        found = logits(network, expected["input"])
    assert np.abs(found - wanted).max() < TOLERANCES.get(name.partition("_")[0], 1e-5)
    assert network.dialect.name == dialect
    assert tuple(block.units for block in network.table.blocks) == units
    assert "the network is read from the shapes" in network.card.provenance["notes"]


def test_the_wrong_stride_gives_other_logits() -> None:
    path = GOLDENS / "detectron_bottleneck.pkl"
    table = forebear.load(path).table
    with np.load(GOLDENS / "expected.npz") as expected:
        wrong = forebear.load(table, weights=path, dialect=_with_stride("conv2"))
        apart = np.abs(logits(wrong, expected["input"]) - expected["detectron_bottleneck"]).max()
    assert apart > 1e-2


def _with_stride(conv: Any) -> forebear.Dialect:
    from dataclasses import replace

    from forebear.tables.dialects import DETECTRON

    return replace(DETECTRON, name="other", strided_conv=conv)


def _shared() -> list[str]:
    if not SHARED.is_dir():
        return []
    files = (
        path for kind in ("torch", "detectron", "paddle") for path in (SHARED / kind).iterdir()
    )
    folders = (
        path for kind in ("hf", "kerashub") for path in (SHARED / kind).iterdir() if path.is_dir()
    )
    found = [path for path in (*files, *folders) if path.suffix != ".npz" and path.name[:2] != "vd"]
    return sorted(path.relative_to(SHARED).as_posix() for path in found)


@pytest.mark.skipif(not SHARED.is_dir(), reason="its files are beside the repository")
@pytest.mark.parametrize("name", _shared() or ["none"])
@pytest.mark.long(after=10)
def test_every_file_beside_the_repository(name: str) -> None:
    path = SHARED / name
    network = forebear.load(path)
    stem = name
    for ending in ENDINGS:
        stem = stem.removesuffix(ending)
    while not (SHARED / f"{stem}.expected.npz").exists():
        stem = stem.rpartition(".")[0]
    with (
        np.load(SHARED / "inputs.npz") as inputs,
        np.load(SHARED / f"{stem}.expected.npz") as arrays,
    ):
        for size in inputs.files:
            found = logits(network, inputs[size])
            key = f"{size}/logits"
            if any(word in name for word in WITHOUT_HEAD):  # the features, of the wanted network
                key = f"{size}/end_point::{'resnet.pooler' if name[:2] == 'hf' else 'avgpool'}"
            apart = np.abs(found - arrays[key].reshape(found.shape)).max()
            assert apart < TOLERANCES.get(name.partition("/")[0], 1e-5)
