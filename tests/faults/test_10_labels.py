"""Labels out of range, other classes, and arrays that are missing, extra, renamed or misshapen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import forebear
from tests.faults import making
from tests.faults.conftest import Figure
from tests.faults.zygote import Zygote

NETWORK = "paper/resnet20"

LABELS: dict[str, Any] = {
    "too high": lambda labels: np.where(np.arange(len(labels)) == 7, 3, labels),
    "negative": lambda labels: np.where(np.arange(len(labels)) == 7, -1, labels),
    "no integers": lambda labels: labels + 0.5,
    "too few": lambda labels: labels[:-1],
}


@pytest.mark.parametrize("what", LABELS)
def test_labels_that_do_not_fit_are_refused_before_the_first_step(
    what: str, tmp_path: Path, place: Path, zygote: Zygote, figure: Figure
) -> None:
    images, labels = making.pixels()
    changed = LABELS[what](labels[:-40])
    np.savez(
        tmp_path / "x.npz",
        x_train=images[:-40],
        y_train=changed,
        x_test=images[-40:],
        y_test=labels[-40:],
        classes=np.array(making.CLASSES),
    )
    words = making.train(place, tmp_path / "run", data=f"npz:{tmp_path / 'x.npz'}")
    zygote.start(*words, folder=tmp_path / "said").wait().refused("x.npz: y_train", "xpected")
    assert not (tmp_path / "run").exists()
    figure.count("as specified", 1)


def test_other_classes_are_refused_by_name(
    tmp_path: Path, trained: Path, zygote: Zygote, figure: Figure
) -> None:
    images, labels = making.pixels()
    for name, classes in (("more", ("across", "down", "grey", "other")), ("case", ("Across",) * 1)):
        path = tmp_path / f"{name}.npz"
        count = len(classes)
        own = labels % count
        names = np.array(classes)
        np.savez(path, x_train=images, y_train=own, x_test=images, y_test=own, classes=names)
        words = ("evaluate", trained, "--data", f"npz:{path}")
        zygote.start(*words, folder=tmp_path / f"said-{name}").wait().refused(
            "is unknown to the network", "xpected"
        )
        figure.count("as specified", 1)


def state() -> dict[str, torch.Tensor]:
    network = forebear.create(NETWORK, num_classes=3)
    from forebear.weights.variable_names import pairs

    ours = network.state_dict()
    return {
        pair.theirs: torch.from_numpy(pair.layout.store(ours[pair.ours].numpy()).copy())
        for pair in pairs(network.plan)
    }


def change(what: str) -> tuple[dict[str, torch.Tensor], str]:
    arrays = state()
    names = [name for name in arrays if name.endswith("weight") and arrays[name].ndim == 4]
    name = names[3]
    if what == "missing":
        del arrays[name]
    elif what == "renamed":
        arrays[name.replace("weight", "wait")] = arrays.pop(name)
    elif what == "extra":
        arrays["layer9.weight"] = torch.zeros(2)
        name = "layer9.weight"
    elif what == "of another shape":
        arrays[name] = arrays[name][:-1].clone()
    return arrays, name


@pytest.mark.parametrize("what", ["missing", "renamed", "extra", "of another shape"])
@pytest.mark.parametrize("verb", ["predict", "train"])
@pytest.mark.long(after=1)
def test_arrays_that_do_not_fit_are_named(
    what: str, verb: str, tmp_path: Path, place: Path, zygote: Zygote, figure: Figure
) -> None:
    arrays, name = change(what)
    torch.save(arrays, tmp_path / "x.pth")
    image = next((place / "data").rglob("*.png"))
    words: tuple[object, ...] = ("predict", "--weights", tmp_path / "x.pth", "--network", NETWORK)
    words = (*words, image)
    if verb == "train":
        words = ("train", "--data", f"folder:{place / 'data'}", "--network", NETWORK)
        words = (*words, "--weights", tmp_path / "x.pth", "--out", tmp_path / "run")
    line = zygote.start(*words, folder=tmp_path / "said").wait().failed("xpected")
    assert name in line or name.replace("weight", "wait") in line
    assert not (tmp_path / "run").exists()
    figure.count("as specified", 1)
