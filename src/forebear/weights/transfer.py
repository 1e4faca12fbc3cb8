"""One network's weights in another that is the same function in evaluation."""

from __future__ import annotations

from torch import Tensor

from forebear.errors import WeightsError
from forebear.network.describe.equivalence import same_function
from forebear.network.network import Network
from forebear.network.plan.plan import Plan


def transfer(source: Network, target: Network) -> None:
    """Fills a network with another's weights, where that leaves the function as it is.

    A bias before a norm that the target lacks is taken off the norm's running mean; one that only
    the target has is zero. Blocks may go by other names.

    Raises:
        WeightsError: the target is another function; the message says why.
    """
    verdict = same_function(source.plan, target.plan)
    if verdict.answer != "same":
        raise WeightsError(
            f"{source.table.name} in dialect {source.dialect.name} cannot be held exactly by "
            f"{target.table.name} in dialect {target.dialect.name}: {'; '.join(verdict.reasons)}. "
            "Expected networks that are one function in evaluation. Pass another target."
        )
    given, state = source.state_dict(), target.state_dict()
    for ours, theirs in _paths(source.plan, target.plan):
        state |= _moved(given, ours, state, theirs)
    target.load_state_dict(state)
    if len(source.classes) in (0, target.plan.num_classes):
        target.card = source.card


def _paths(source: Plan, target: Plan) -> list[tuple[str, str]]:
    """The paths of the layers that hold arrays, in pairs."""
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
    if bias is not None:  # a norm follows, or the functions would differ
        arrays["norm.running_mean"] = arrays["norm.running_mean"] - bias
    if "conv.bias" in wanted and "conv.bias" not in arrays:
        arrays["conv.bias"] = wanted["conv.bias"].new_zeros(wanted["conv.bias"].shape)
    return {f"{theirs}.{name}": value for name, value in arrays.items()}
