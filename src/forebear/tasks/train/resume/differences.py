"""What has changed between the start of a run and its resume: the images, or the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from forebear.data.dataset import Dataset


def changed_images(settings: Mapping[str, Any], now: Dataset) -> str:
    """Returns in a few words how the images have changed since the run began; "" if they have not.

    Args:
        settings: Of the run.
        now: The data set of the same name.
    """
    then = settings["data"]
    if then["fingerprint"] == now.fingerprint:
        return ""
    before = list(then["classes"])
    found = [f"class {name!r} is gone" for name in before if name not in now.classes]
    found += [f"class {name!r} is new" for name in now.classes if name not in before]
    for part, name, count in (
        ("train", "training", len(now.train)),
        ("held_out", "validation", len(now.val)),
    ):
        if then[part] != count:
            found.append(f"{then[part]:,} {name} images then, {count:,} now")
    if not found and _by_names(settings):
        return ""
    return ", ".join(found) or "as many as before, but other ones"


def unsure_images(settings: Mapping[str, Any], now: Dataset) -> str:
    """Returns a sentence if the same images may be other ones or in another order, else ""."""
    then = settings["data"]
    if then["fingerprint"] != now.fingerprint:
        return (
            "the run was begun by an older version, which did not hash images: only their number "
            "and the classes were compared"
        )
    if then.get("order") in (None, now.order):
        return ""
    return (
        "the files of the images have other names, so that they come in another order: results "
        "will be close to, but not bit-identical with, an uninterrupted run"
    )


def _by_names(settings: Mapping[str, Any]) -> bool:
    """Whether an older version compared names and sizes of given parts, and no contents."""
    given = str(settings["data"].get("split", "")).startswith("given by the ")
    return "id" not in settings and given


def changed_machine(
    settings: dict[str, Any], *, device: str, processes: int, threads: int | None
) -> str:
    """Returns a sentence if the result cannot be bit-identical to an uninterrupted run, else "".

    Args:
        settings: Of the run.
        device: Where the run goes on, as settings name it.
        processes: Number of processes that train now.
        threads: Compute threads; None if they are chosen by timing.
    """
    machine = settings["machine"]  # before version 0.2 the device was "cpu" on any processor
    found = [
        f"started with {then}, resumed with {now}"
        for then, now in (
            (_count(machine["processes"], "process"), _count(processes, "process")),
            (_threads(settings["request"]["threads"]), _threads(threads)),
            (device if machine["device"] == "cpu" else machine["device"], device),
            (f"torch {settings['versions']['torch']}", f"torch {torch.__version__}"),
        )
        if then != now
    ]
    if not found:
        return ""
    return (
        f"{'; '.join(found)}: the order of the images stays the same; results will be close to, "
        "but not bit-identical with, an uninterrupted run"
    )


def _threads(count: int | None) -> str:
    return "threads chosen by timing" if count is None else _count(count, "thread")


def _count(count: int, what: str) -> str:
    plural = "es" if what.endswith("s") else "s"
    return f"{count} {what}{'' if count == 1 else plural}"
