"""Identifies the published network of a checkpoint by the names and shapes of its arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from forebear.errors import WeightsError
from forebear.network.describe.equivalence import same_function
from forebear.network.plan.expand import expand
from forebear.network.plan.plan import Plan
from forebear.tables.registry import NETWORKS, find
from forebear.weights.assign import bare, beside
from forebear.weights.readers.base import Arrays
from forebear.weights.variable_names import Pair, pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A network whose arrays match those of a checkpoint exactly."""

    network: str  # a name from forebear.networks()
    num_classes: int | None  # None: the checkpoint has no logits
    in_channels: int

    def plan(self) -> Plan:
        """Returns the plan of the network."""
        entry = find(self.network)
        return expand(
            entry.table,
            entry.dialect,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
        )


@cache
def _pairs(network: str, logits: bool) -> tuple[Pair, ...]:
    entry = find(network)
    classes = entry.table.classes if logits else None
    return tuple(pairs(expand(entry.table, entry.dialect, num_classes=classes)))


def fits(arrays: Arrays) -> list[Fit]:
    """Returns every published network that the arrays match."""
    shapes = {bare(name): arrays.shape(name) for name in arrays if not beside(name)}
    shapes = {name.replace("probs/", "predictions/"): shape for name, shape in shapes.items()}
    found = []
    for network in NETWORKS:
        library, dialect = network.split("/")[0], find(network).dialect
        if library == "paper" and dialect.names == "torchvision":
            continue  # the paper's ImageNet networks were never published under these names
        fit = _fit(network, shapes)
        if fit is not None:
            found.append(fit)
    return found


def _fit(network: str, shapes: dict[str, tuple[int, ...]]) -> Fit | None:
    for logits in (True, False):
        known = _pairs(network, logits)
        names = {pair.theirs for pair in known}
        needed = {pair.theirs for pair in known if pair.needed}
        if not needed <= shapes.keys() <= names:
            continue
        first = next(pair for pair in known if pair.ours.endswith("conv.weight"))
        if len(shapes[first.theirs]) != 4:
            continue
        classes = shapes[known[-1].theirs][0] if logits else None
        channels = shapes[first.theirs][first.their_shape.index(3)]  # the planned value is 3
        fit = Fit(network=network, num_classes=classes, in_channels=channels)
        exact = {pair.theirs: pair.their_shape for pair in pairs(fit.plan())}
        if all(exact[name] == shape for name, shape in shapes.items()):
            return fit
    return None


def recognise(arrays: Arrays) -> Fit:
    """Returns the network that the arrays match.

    If several networks match and compute the same function, it returns the first one.

    Raises:
        WeightsError: No network matches, or networks match that compute different functions. The
            message lists them.
    """
    found = fits(arrays)
    if not found:
        raise WeightsError(
            f"{arrays.path}: its {len(arrays)} arrays match none of the {len(NETWORKS)} published "
            f"networks (first array: {next(iter(arrays), 'none')!r}). Expected the weights of a "
            "published network. Pass the network, as in --network slim/resnet_v1_50."
        )
    first = found[0].plan()
    different = [fit for fit in found if same_function(first, fit.plan()).answer != "same"]
    if different:
        names = ", ".join(fit.network for fit in found)
        raise WeightsError(
            f"{arrays.path}: its arrays match {names}, which compute different functions. Expected "
            f"a choice of the network. Pass one of these, as in --network {found[0].network}."
        )
    return found[0]
