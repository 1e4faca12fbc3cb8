"""Times a training step on this machine."""

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

TRIALS = 4  # steps to time; the first one warms up
GRAPHS = 3  # steps until a CUDA graph is recorded and replayed once


def seconds_of_step(
    recipe: Recipe,
    network: Network,
    device: torch.device,
    *,
    mode: Mode = "off",
    until: float = math.inf,
) -> float:
    """Returns the median time of a few steps on random images or features, in seconds.

    If there is no time for a second step, the time of the first one is returned, which is longer
    because it warms up.

    Args:
        recipe: Its batch and size are used.
        network: A copy of it takes the steps.
        device: Where the copy takes the steps.
        mode: How operations are run.
        until: time.perf_counter() from which no further step is taken.

    Raises:
        RuntimeError: torch.compile failed, or memory ran out.
    """
    twin = copy.deepcopy(network).train().to(device)
    twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if device.type == "cpu" and mode == "off":
        accelerate(twin, winograd=recipe.precision != "fp32-strict")
    model: nn.Module = twin
    images = torch.randn(recipe.batch, twin.plan.in_channels, *recipe.shape, device=device).to(
        memory_format=torch.channels_last
    )
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
