from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from forebear.data.dataset import ArrayImages, Dataset
from forebear.tasks.train.resume.differences import (
    changed_images,
    changed_machine,
    unsure_images,
)


def data(train: int, val: int, classes: tuple[str, ...] = ("a", "b")) -> Dataset:
    images = ArrayImages(
        np.zeros((train + val, 2, 2, 3), np.uint8), np.zeros(train + val, int), "x"
    )
    return Dataset(
        spec="x",
        classes=classes,
        train=images.take(np.arange(train)),
        val=images.take(np.arange(val)),
        side=2,
        mirror=True,
        split="",
        fingerprint="",
    )


def begun(**more: Any) -> dict[str, Any]:
    """The settings of a run on `data(4, 2)`."""
    then = {"classes": ["a", "b"], "train": 4, "held_out": 2, "fingerprint": "f", "order": "o"}
    return {"data": then, "id": "x", **more}


def test_the_same_images_are_not_worth_a_word() -> None:
    same = replace(data(4, 2), fingerprint="f", order="o")
    assert changed_images(begun(), same) == ""
    assert unsure_images(begun(), same) == ""


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (data(4, 2), "as many as before, but other ones"),
        (data(5, 2), "4 training images then, 5 now"),
        (data(4, 1), "2 validation images then, 1 now"),
        (data(4, 2, ("a", "c")), "class 'b' is gone, class 'c' is new"),
        (data(3, 2, ("a",)), "class 'b' is gone, 4 training images then, 3 now"),
    ],
)
def test_what_has_changed_is_told_by_names_and_numbers(now: Dataset, said: str) -> None:
    assert changed_images(begun(), now) == said


def test_the_same_images_under_other_names_are_said() -> None:
    renamed = replace(data(4, 2), fingerprint="f", order="p")
    assert changed_images(begun(), renamed) == ""
    assert "have other names, so that they come in another order" in unsure_images(begun(), renamed)


def test_runs_of_older_versions_compare_what_they_knew() -> None:
    old = begun()
    del old["id"], old["data"]["order"]
    old["data"]["split"] = "given by the folders train and val"
    assert changed_images(old, data(4, 2)) == ""
    assert "begun by an older version, which did not hash images" in unsure_images(old, data(4, 2))
    assert changed_images(old, data(5, 2)) == "4 training images then, 5 now"
    old["data"]["split"] = "15% of each class held out"  # these were hashed
    assert changed_images(old, data(4, 2)) == "as many as before, but other ones"


def settings(**machine: Any) -> dict[str, Any]:
    return {
        "machine": {"device": "a CPU", "processes": 1, **machine},
        "request": {"threads": 2},
        "versions": {"torch": torch.__version__},
    }


def test_the_same_machine_is_not_worth_a_word() -> None:
    assert changed_machine(settings(), device="a CPU", processes=1, threads=2) == ""
    # Older versions wrote "cpu", whichever processor it was.
    old = settings(device="cpu")
    assert changed_machine(old, device="a CPU", processes=1, threads=2) == ""


@pytest.mark.parametrize(
    ("device", "processes", "threads", "said"),
    [
        ("a CPU", 2, 2, "started with 1 process, resumed with 2 processes: "),
        ("a CPU", 1, None, "started with 2 threads, resumed with threads chosen by timing: "),
        ("a GPU", 1, 2, "started with a CPU, resumed with a GPU: "),
    ],
)
def test_another_machine_is_named(
    device: str, processes: int, threads: int | None, said: str
) -> None:
    found = changed_machine(settings(), device=device, processes=processes, threads=threads)
    assert found.startswith(said)
    assert found.endswith("but not bit-identical with, an uninterrupted run")
