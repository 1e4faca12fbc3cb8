"""Rewrites a network to an equal one that costs less, for prediction only."""

from __future__ import annotations

from contextlib import suppress

from forebear.network.network import Network
from forebear.weights.rewrite import REWRITES


def lower(network: Network, *, keep_input: bool = False) -> Network:
    """Returns an equal network with fewer operations; the given one is not modified.

    The strides of an original version 1 network move to TF-Slim's position, norms are folded into
    the convolutions before them, and the scale and the channel order of the preprocessing into the
    first convolution. What does not apply to a network is left out. The card of the result holds
    the preprocessing that remains: the mean, in most cases.

    Args:
        network: In evaluation mode.
        keep_input: Whether the input stays as it is, after all of the preprocessing.
    """
    found = network
    for rewrite in ("strides", "norms") if keep_input else ("strides", "norms", "input"):
        with suppress(ValueError):  # it does not apply
            found = REWRITES[rewrite](found)
    return found.eval()
