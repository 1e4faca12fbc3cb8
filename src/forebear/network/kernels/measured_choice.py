"""The fastest of several ways to compute a convolution in float32, measured on this machine.

Each shape is measured once, forward and backward, and the choice is kept in
$FOREBEAR_HOME/convolutions.json under the key of the processor. A run that is resumed there takes
the same ways, and so ends in the same bits.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from forebear.files import home, make_private, own_text, process_lock, write_text
from forebear.hardware import processor
from forebear.network.kernels.conv_geometry import Window
from forebear.network.kernels.native import version
from forebear.network.kernels.split_maps import Split
from forebear.untrusted import parse_json

Way = type[torch.autograd.Function] | type[Split]
TORCH = "torch"  # the name of torch's own convolution
ROUNDS = 2  # timed turns of each way, after one that is not counted
WORK = 1.5e9  # multiply-adds of a turn's forward pass, by fewer images if a batch has more
SMALL = 2e6  # multiply-adds: a convolution with fewer is not measured
MOST = 5000  # choices to keep; the oldest are deleted first
WAIT = 60.0  # seconds for another process that measures

_log = logging.getLogger(__name__)
_known: dict[str, str] = {}  # the choices that this process has used, by their key


def fastest(ways: Sequence[Way], window: Window, x: Tensor, weight: Tensor) -> Way | None:
    """Returns the fastest way for a convolution; None: torch's own.

    Args:
        ways: Of forebear. The first one is taken if the convolution is too small to be measured.
        window: The geometry of the convolution.
        x: [N, in_channels, H, W] in channels_last, float32. Its values do not matter.
        weight: [channels, in_channels / groups, kernel, kernel], float32.
    """
    each = window.height * window.width * weight.numel()  # multiply-adds of an image
    if len(x) * each < SMALL:
        return ways[0]
    images = max(1, min(len(x), int(WORK / each)))
    key = _key(ways, window, (images, *x.shape[1:]), weight)
    if key not in _known:
        _known[key] = _kept_or_measured(key, ways, window, images, x, weight)
    name = _known[key]
    return None if name == TORCH else next((way for way in ways if way.__name__ == name), ways[0])


def summary() -> str:
    """Returns the ways of this process's convolutions, such as "12 by Winograd, 3 by torch"."""
    return ", ".join(f"{count} by {name}" for name, count in counts(_known).items())


def counts(choices: Mapping[str, str]) -> dict[str, int]:
    """Returns how many of some choices are of each way; the most frequent way comes first."""
    return dict(Counter(name.strip("_").lower() for name in choices.values()).most_common())


def kept() -> Mapping[str, str]:
    """Returns the choices that are kept for this processor and this torch, by their key."""
    return {key: name for key, name in _read().items() if key.startswith(_machine())}


def _machine() -> str:
    return f"{processor().key}, torch {torch.__version__}, kernels {version()}: "


def _key(ways: Sequence[Way], window: Window, shape: Sequence[int], weight: Tensor) -> str:
    count, channels, height, width = shape
    return (
        f"{_machine()}{count} x {channels} x {height} x {width} to {len(weight)} x "
        f"{window.height} x {window.width}, kernel {window.kernel}, stride {window.stride}, rate "
        f"{window.rate}, groups {window.groups}, zeros {window.top} and {window.left}, of "
        + " ".join(way.__name__ for way in ways)
    )


def _kept_or_measured(
    key: str, ways: Sequence[Way], window: Window, images: int, x: Tensor, weight: Tensor
) -> str:
    """Returns the kept choice, or measures one and keeps it.

    One process measures at a time, and the others take what it found: the processes of a
    distributed run make the same choice.
    """
    found = _read().get(key)
    if found is not None:
        return found
    lock = None
    with suppress(OSError):
        make_private(home())
        lock = process_lock(home() / "convolutions.lock", wait=WAIT)
        lock.acquire()
    try:
        found = _read().get(key)
        if found is None:
            found = _measured(ways, window, (images, *x.shape[1:]), weight)
            _keep(key, found)
        return found
    finally:
        if lock is not None:
            lock.release()


def _measured(ways: Sequence[Way], window: Window, shape: Sequence[int], weight: Tensor) -> str:
    """Returns the name of the way with the shortest turn. Turns of the ways are interleaved."""
    generator = torch.Generator().manual_seed(0)

    def draw(*sizes: int) -> Tensor:
        drawn = torch.randn(*sizes, generator=generator)
        return drawn.contiguous(memory_format=torch.channels_last).requires_grad_()

    x, taps = draw(*shape), draw(*weight.shape)
    dy = draw(shape[0], len(weight), window.height, window.width).detach()

    def turn(way: Way | None) -> float:
        started = perf_counter()
        y = _by_torch(window, x, taps) if way is None else way.apply(x, taps, window)
        torch.autograd.grad(y, (x, taps), dy)
        return perf_counter() - started

    all_ways = (*ways, None)
    times: dict[Way | None, float] = dict.fromkeys(all_ways, float("inf"))
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        for number in range(1 + ROUNDS):
            for way in all_ways:
                taken = turn(way)
                times[way] = min(times[way], taken) if number else times[way]
    best = min(all_ways, key=lambda way: times[way])
    return TORCH if best is None else best.__name__


def _by_torch(window: Window, x: Tensor, weight: Tensor) -> Tensor:
    pads = (window.top, window.left)
    return F.conv2d(x, weight, None, window.stride, pads, window.rate, window.groups)


def _keep(key: str, name: str) -> None:
    known = {one: value for one, value in _read().items() if one != key}
    newest = dict(list(known.items())[1 - MOST :]) | {key: name}
    try:
        write_text(home() / "convolutions.json", json.dumps(newest, indent=1) + "\n")
    except OSError as error:
        _log.info("convolutions.json was not written: %s", error)


def _read() -> dict[str, str]:
    try:
        found: Any = parse_json(own_text(home() / "convolutions.json"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: name for key, name in found.items() if isinstance(name, str)}
