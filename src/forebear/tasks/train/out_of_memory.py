"""If memory runs out, an error says what would fit.

`explain_out_of_memory` is for training steps, `explain_evaluation` for evaluations, and
`explain_anywhere` for everything else.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from forebear.data.loader import Loader
from forebear.errors import RunError, ran_out
from forebear.network.network import Network
from forebear.tasks.machine.distributed import ALONE
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.step import Stepper


@contextmanager
def explain_out_of_memory(network: Network, recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Turns a failed allocation in a training step into an error that names a batch that fits.

    Raises:
        RunError: Memory ran out.
    """
    whole = recipe.batch // recipe.accumulate

    def step(count: int) -> None:
        stepper = Stepper(network, network, recipe, device, ALONE)
        images = torch.zeros(count, network.plan.in_channels, *recipe.shape, device=device)
        labels = torch.zeros(count, dtype=torch.int64, device=device)
        stepper(images, labels, labels, total=count, share=0.0)

    def advice() -> str:
        fits = _fitting(whole, step, device, least=2)
        if not fits:
            return "fewer: Not even 2 fit. Pass a smaller --size or network."
        parts, instead = -(-recipe.batch // fits), f"or --batch {fits}"
        return f"fewer: {fits} fit. Pass --set accumulate={parts} for the same steps, {instead}."

    what = f"{whole} images of {' x '.join(map(str, recipe.shape))} pixels at a time"
    with _explained(f"{what} do not fit in the memory of {device}", advice):
        yield


@contextmanager
def explain_evaluation(
    network: nn.Module, batches: Loader, precision: str, *, least: int = 1
) -> Iterator[None]:
    """Turns a failed allocation in an evaluation into an error that names a batch that fits.

    Args:
        network: On the device of the batches.
        batches: The images.
        precision: fp32 or bf16.
        least: The smallest number of images that the caller evaluates at a time.

    Raises:
        RunError: Memory ran out.
    """
    device, rule = batches.device, batches.rule
    whole = min(batches.batch, len(batches.places))

    def evaluate(count: int) -> None:
        training = network.training
        network.eval()
        try:
            with (
                torch.inference_mode(),
                torch.autocast(device.type, torch.bfloat16, precision == "bf16"),
            ):
                network(torch.zeros(count, rule.channels, *rule.shape, device=device))
        finally:
            network.train(training)

    def advice() -> str:
        fits = _fitting(whole, evaluate, device, least=least)
        if fits:
            return f"fewer: {fits} fit. Pass --batch {fits}."
        return "images that fit. Use a smaller input size or network."

    what = f"{whole} images of {' x '.join(map(str, rule.shape))} pixels at a time"
    with _explained(f"{what} cannot be evaluated in the memory of {device}", advice):
        yield


@contextmanager
def explain_anywhere() -> Iterator[None]:
    """Turns a failed allocation that nothing else explains into an error of one line.

    Raises:
        RunError: Memory ran out.
    """
    with _explained(
        "memory ran out",
        lambda: (
            "room for the network, its optimizer and the images. Pass a smaller --batch, --size or "
            "network, or end other programs that use the device."
        ),
    ):
        yield


@contextmanager
def _explained(what: str, expected: Callable[[], str]) -> Iterator[None]:
    """Raises a RunError with `what`, torch's reason and what is `expected`, if memory runs out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        said = str(error).partition("\n")[0] or type(error).__name__
        traceback.clear_frames(error.__traceback__)  # they hold the arrays that filled the memory
    else:
        return
    raise RunError(f"{what} ({said}). Expected {expected()}")


def _fitting(
    count: int, attempt: Callable[[int], None], device: torch.device, *, least: int
) -> int:
    """Returns a number of images that fits, found by halving `count`; 0 if it is below `least`."""
    count //= 2
    while count >= least:
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            attempt(count)
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            count //= 2
        else:
            return count
    return 0
