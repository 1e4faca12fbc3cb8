"""What has changed since a run began that now goes on: its pictures, or the machine."""

from __future__ import annotations

from typing import Any

import torch

from forebear.data.dataset import Dataset


def changed_pictures(then: dict[str, Any], now: Dataset) -> str:
    """In a few words, as far as names and numbers tell; "as many, but others" where they do not.

    Args:
        then: the part "data" of a run's settings.
        now: the data set of the same name, of another fingerprint.
    """
    before = then["classes"]
    found = [f"class {name!r} is gone" for name in before if name not in now.classes]
    found += [f"class {name!r} is new" for name in now.classes if name not in before]
    for part, told, count in (
        ("train", "to train on", len(now.train)),
        ("held_out", "held out", len(now.val)),
    ):
        if then[part] != count:
            found.append(f"{then[part]:,} pictures {told} then, {count:,} now")
    return ", ".join(found) or "as many, but others"


def changed_machine(
    settings: dict[str, Any], *, device: str, processes: int, threads: int | None
) -> str:
    """A sentence where the weights cannot become those of an unbroken run to the bit, else "".

    Args:
        settings: of the run.
        device: as settings name it.
        processes: that train now.
        threads: that compute now, None where they are chosen by the clock.
    """
    machine = settings["machine"]  # before version 0.2 the device was "cpu", of any processor
    found = [
        f"begun by {then or 'chosen'}{what}, gone on with by {now or 'chosen ones'}"
        for what, then, now in (
            (" processes", machine["processes"], processes),
            (" threads", settings["request"]["threads"], threads),
            ("", device if machine["device"] == "cpu" else machine["device"], device),
            ("", f"torch {settings['versions']['torch']}", f"torch {torch.__version__}"),
        )
        if then != now
    ]
    if not found:
        return ""
    return (
        f"{'; '.join(found)}: the pictures come in the same order; the weights will be like those "
        "of an unbroken run, not the same to the bit"
    )
