"""What to do when a step does not fit in memory: find the batch that does."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from forebear.errors import RunError
from forebear.network.network import Network
from forebear.tasks.machine.distributed import ALONE
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.step import Stepper


@contextmanager
def explain_out_of_memory(network: Network, recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Turns an allocation that failed into an error that names the batch that fits.

    Raises:
        RunError: memory ran out in the block.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        said = str(error).splitlines()[0]
    else:
        return
    fits = _fitting(network, recipe, device)
    whole = recipe.batch // recipe.accumulate
    if fits:
        parts = -(-recipe.batch // fits)
        remedy = f"{fits} fit. Pass --set accumulate={parts} for the same steps, or --batch {fits}."
    else:
        remedy = "Not even 2 fit. Pass a smaller --size or network."
    raise RunError(
        f"{whole} pictures of {recipe.size} x {recipe.size} pixels at a time do not fit in the "
        f"memory of {device} ({said}). Expected fewer: {remedy}"
    )


def ran_out(error: BaseException) -> bool:
    """Whether memory was what an operation lacked; on a processor torch has no class for it."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        "allocate memory" in str(error) or "not enough memory" in str(error)
    )


def _fitting(network: Network, recipe: Recipe, device: torch.device) -> int:
    """Pictures that a step can take at once, by trying ever smaller halves; 0 where none fit."""
    count = recipe.batch // recipe.accumulate // 2
    while count >= 2:
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            stepper = Stepper(network, network, recipe, device, ALONE)
            side = recipe.size
            images = torch.zeros(count, network.plan.in_channels, side, side, device=device)
            labels = torch.zeros(count, dtype=torch.int64, device=device)
            stepper(images, labels, labels, total=count, share=0.0)
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            count //= 2
        else:
            return count
    return 0
