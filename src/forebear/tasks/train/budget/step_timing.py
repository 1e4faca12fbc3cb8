"""How long a step takes here: what plans are made by."""

from __future__ import annotations

import copy
import math
import statistics
import time

import torch
from torch import nn

from forebear.network.accelerate import accelerate
from forebear.network.network import Network
from forebear.tasks.machine.distributed import ALONE
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.step import Mode, Stepper

TRIALS = 4  # steps that are timed; the first one warms up
GRAPHS = 3  # more of them until a graph is recorded and played once


def seconds_of_step(
    recipe: Recipe,
    network: Network,
    device: torch.device,
    *,
    mode: Mode = "off",
    until: float = math.inf,
) -> float:
    """The median of a few steps of a copy of the network, on random pictures or features.

    Of the first step, which warms up and is slower, where there is no time for another.

    Args:
        recipe: of the step; its batch and its size.
        network: stays as it is.
        device: where the copy takes the steps.
        mode: how its operations are run.
        until: time.perf_counter() from which no further step is taken.

    Raises:
        RuntimeError: what torch.compile raises, or memory that ran out.
    """
    twin = copy.deepcopy(network).train().to(device)
    twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if device.type == "cpu" and mode == "off":
        accelerate(twin)
    model: nn.Module = twin
    images = torch.randn(
        recipe.batch, twin.plan.in_channels, recipe.size, recipe.size, device=device
    ).to(memory_format=torch.channels_last)
    if recipe.head_only:
        model = twin.requires_grad_(False).get_submodule("logits").requires_grad_(True)
        images = torch.randn(
            recipe.batch, int(model.get_parameter("weight").shape[1]), device=device
        )
    stepper = Stepper(model, twin, recipe, device, ALONE, mode=mode)
    labels = torch.zeros(recipe.batch, dtype=torch.int64, device=device)
    first = GRAPHS if mode == "graphs" else 1
    seconds = []
    for _ in range(first + TRIALS - 1):
        started = time.perf_counter()
        float(stepper(images, labels, labels, total=recipe.batch, share=1e-6)[0])
        seconds.append(time.perf_counter() - started)
        if time.perf_counter() + seconds[-1] > until:
            break
    return statistics.median(seconds[first:] or seconds[-1:])
