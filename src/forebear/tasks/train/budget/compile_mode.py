"""Chooses whether torch.compile runs the steps of a run, by timing, and remembers the choice.

Only GPUs are timed. On a CPU forebear's own kernels are faster: a step of ResNet-18 on 32 images of
128 pixels takes 346 ms with them, 374 ms in plain torch, and 416 ms compiled, after 88 s of
compiling (torch 2.13, AVX-512 with bf16, one thread). `benchmarks/step_speed.py --compiled` times
other networks.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast, get_args

import torch

from forebear.errors import RunError
from forebear.files import home, make_private, own_text, write_text
from forebear.network.network import Network
from forebear.tables.files import dialect_to_dict, table_to_dict
from forebear.tasks.machine.device import device_name
from forebear.tasks.train.budget.step_timing import seconds_of_step
from forebear.tasks.train.machine_config import Compile
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.step import Mode
from forebear.untrusted import parse_json

LEAST = 600.0  # seconds of a run that can make up for a minute or two of compiling
GAIN = 0.97  # time of a compiled step, relative to an eager one, that is worth compiling

_log = logging.getLogger(__name__)


def mode_of(
    wish: str,
    recipe: Recipe,
    network: Network,
    device: torch.device,
    *,
    alone: bool,
    length: Callable[[float], float],
) -> Mode:
    """Returns how operations are run: as asked for, or as timed now or in an earlier run.

    Args:
        wish: auto, or a mode.
        recipe: Of the run, with the batch of one process.
        network: A copy of it takes a few steps.
        device: Where it trains.
        alone: Whether one process trains; several cannot use CUDA graphs.
        length: Returns the seconds of the run, given those of a step.

    Raises:
        ValueError: `wish` is unknown, or CUDA graphs cannot be used here.
    """
    if wish not in get_args(Compile):
        expected = ", ".join(get_args(Compile))
        raise ValueError(f"compile={wish!r}: expected one of {expected}.")
    if wish == "graphs" and not (device.type == "cuda" and alone and recipe.accumulate == 1):
        raise ValueError(
            "compile='graphs': CUDA graphs need a GPU, one process and accumulate=1. Pass on or "
            "auto."
        )
    if wish != "auto":
        return cast(Mode, wish)
    if device.type != "cuda" or recipe.head_only or (recipe.batch_norm == "sync" and not alone):
        return "off"
    modes: tuple[Mode, ...] = ("on", "graphs") if alone and recipe.accumulate == 1 else ("on",)
    key = _key(recipe, network, device, modes)
    known = _known().get(key)
    if known in get_args(Mode):
        return cast(Mode, known)
    seconds: dict[Mode, float] = {"off": seconds_of_step(recipe, network, device)}
    if length(seconds["off"]) < LEAST:
        return "off"
    for mode in modes:
        try:
            seconds[mode] = seconds_of_step(recipe, network, device, mode=mode)
        except RuntimeError as error:  # no compiler, not enough memory, or not supported
            _log.info("torch.compile, mode %s: %s", mode, _first_line(error))
    best = min(seconds, key=lambda mode: seconds[mode])
    if seconds[best] > GAIN * seconds["off"]:
        best = "off"
    _remember(key, best)
    return best


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _key(recipe: Recipe, network: Network, device: torch.device, modes: tuple[Mode, ...]) -> str:
    """Identifies a choice: the modes tried, the network, the step, the machine and torch."""
    facts = (
        modes,
        table_to_dict(replace(network.table, source="")),  # words; older keys lack them
        dialect_to_dict(network.dialect),
        [recipe.batch, recipe.accumulate, *_size(recipe), recipe.precision, recipe.optimizer],
        device_name(device),
        torch.__version__,
    )
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _size(recipe: Recipe) -> tuple[int, ...]:
    """Returns the side of a square, as older keys have it, or height and width."""
    return recipe.shape if recipe.width else (recipe.size,)


def _known() -> dict[str, str]:
    """Returns the remembered modes by key; empty if the file is missing or damaged."""
    try:
        found = parse_json(own_text(home() / "compile.json"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(key: str, mode: Mode) -> None:
    """Keeps a choice for later runs; if the file cannot be written, they will time again."""
    try:
        make_private(home())
        write_text(home() / "compile.json", json.dumps(_known() | {key: mode}, indent=1) + "\n")
    except OSError as error:
        _log.info("compile.json was not written: %s", error)


@contextmanager
def compiling(mode: Mode) -> Iterator[None]:
    """Turns an error of torch.compile into one that says what to do.

    Raises:
        RunError: The network could not be compiled.
    """
    if mode == "off":
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        raise RunError(
            f"torch.compile failed ({_first_line(error)}). Expected a compiler that it can "
            "use: a C++ compiler on a processor, Triton on a GPU. Pass --compile off."
        ) from error
