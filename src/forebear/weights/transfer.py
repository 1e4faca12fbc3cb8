"""Transfers weights between networks that compute the same function in evaluation mode."""

from __future__ import annotations

import torch
from torch import Tensor

from forebear.errors import WeightsError
from forebear.network.describe.equivalence import same_function
from forebear.network.network import Network
from forebear.network.plan.plan import Plan


def transfer(source: Network, target: Network) -> None:
    """Copies the weights of one network into another that computes the same function.

    If only the source has a bias before a norm, the bias is subtracted from the running mean of the
    norm. If only the target has it, it is set to zero. Names of blocks may differ.

    Raises:
        WeightsError: The target computes a different function. The message gives the reasons.
    """
    verdict = same_function(source.plan, target.plan)
    if verdict.answer != "same":
        raise WeightsError(
            f"{source.table.name} in dialect {source.dialect.name} cannot be converted exactly to "
            f"{target.table.name} in dialect {target.dialect.name}: {'; '.join(verdict.reasons)}. "
            "Expected networks that compute the same function in evaluation mode. Pass another "
            "target."
        )
    given, state = source.state_dict(), target.state_dict()
    for ours, theirs in _paths(source.plan, target.plan):
        state |= _moved(given, ours, state, theirs)
    target.load_state_dict(state)
    if len(source.classes) in (0, target.plan.num_classes):
        target.card = source.card


def held_by(plan: Plan, source: Network) -> Network:
    """Returns a network of another plan with the weights of one, in evaluation mode.

    Raises:
        WeightsError: As of `transfer`.
    """
    with torch.device("meta"):
        target = Network(plan)
    target.to_empty(device=torch.device("cpu"))
    transfer(source, target)
    return target.eval()


def _paths(source: Plan, target: Plan) -> list[tuple[str, str]]:
    """Returns pairs of the paths of corresponding layers, for all layers that have arrays."""
    pairs = []
    for plan in (source, target):
        kinds = ("conv", "norm", "logits")
        pairs.append([layer.path for layer in plan.layers() if layer.kind in kinds])
    return list(zip(*pairs, strict=True))


def _moved(
    given: dict[str, Tensor], ours: str, state: dict[str, Tensor], theirs: str
) -> dict[str, Tensor]:
    arrays = {
        name.removeprefix(f"{ours}."): value
        for name, value in given.items()
        if name.startswith(f"{ours}.")
    }
    wanted = {
        name.removeprefix(f"{theirs}."): value
        for name, value in state.items()
        if name.startswith(f"{theirs}.")
    }
    bias = arrays.pop("conv.bias", None) if "conv.bias" not in wanted else None
    if bias is not None:  # there is a norm after it, because the functions are the same
        arrays["norm.running_mean"] = arrays["norm.running_mean"] - bias
    if "conv.bias" in wanted and "conv.bias" not in arrays:
        arrays["conv.bias"] = wanted["conv.bias"].new_zeros(wanted["conv.bias"].shape)
    return {f"{theirs}.{name}": value for name, value in arrays.items()}
