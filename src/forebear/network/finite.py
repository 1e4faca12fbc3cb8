"""Refuses results that are not finite, as those of damaged weights are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from forebear.errors import WeightsError
from forebear.network.network import Network
from forebear.text import truncated


def check_finite(network: Network, values: Tensor, name: Callable[[int], str]) -> None:
    """Checks the results of a network for a batch of images.

    Args:
        network: The network, whose weights are searched if a result is not finite.
        values: Logits, or other values that depend on all logits, [n, ...] with a row per image.
        name: Returns the name of an image for its row.

    Raises:
        WeightsError: A value is not finite. The message names the image and, if the weights are
            not finite either, the first such array.
    """
    finite = values.isfinite().reshape(len(values), -1).all(1)
    if bool(finite.all()):
        return
    row = int((~finite).nonzero()[0])
    row_values = values[row].flatten()
    first = float(row_values[~row_values.isfinite()][0])
    array = first_not_finite(network)
    if array is None:
        cause = "All weights are finite, so their values or the preprocessing are too large."
    else:
        cause = f"Its array {array} is not finite either."
    raise WeightsError(
        f"{truncated(name(row))}: the results of {network.table.name} are not finite ({first}). "
        f"Expected finite logits. {cause} Pass other weights."
    )


@torch.no_grad()
def first_not_finite(network: Network) -> str | None:
    """Returns the name of the first array that has a value that is not finite; None if none has."""
    state = network.state_dict().items()
    return next((name for name, array in state if not bool(array.isfinite().all())), None)
