"""Identifies the published network of a checkpoint by the names and shapes of its arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from forebear.errors import WeightsError
from forebear.network.describe.equivalence import same_function
from forebear.network.plan.expand import expand
from forebear.network.plan.plan import Plan
from forebear.tables.dialects import Dialect
from forebear.tables.registry import NETWORKS, find
from forebear.tables.rows import Table
from forebear.text import truncated
from forebear.weights.choose_set import BODY, choose
from forebear.weights.find_sets import FileNames, Wanted, WeightSet, find_sets
from forebear.weights.readers.base import Arrays
from forebear.weights.relatives import what_it_is
from forebear.weights.structure import Structure, structures


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A network whose arrays match a set of weights in a checkpoint exactly."""

    network: str  # a name from forebear.networks(), or the table's
    weights: WeightSet
    structure: Structure | None = None  # of a network that is not published

    @property
    def num_classes(self) -> int | None:
        """The number of logits; None if the checkpoint has none."""
        return self.weights.classes

    @property
    def in_channels(self) -> int:
        """The number of channels of the images."""
        return self.weights.channels

    @property
    def entry(self) -> tuple[Table, Dialect]:
        """The table and the dialect of the network."""
        if self.structure is not None:
            return self.structure.table, self.structure.dialect
        entry = find(self.network)
        return entry.table, entry.dialect

    def plan(self) -> Plan:
        """Returns the plan of the network."""
        table, dialect = self.entry
        return expand(
            table,
            dialect,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
        )


@cache
def _wanted(network: str) -> Wanted:
    entry = find(network)
    return Wanted(expand(entry.table, entry.dialect, num_classes=entry.table.classes))


def fits(arrays: Arrays, which: str | None = None) -> list[Fit]:
    """Returns every published network that a set of weights in the file matches.

    Raises:
        WeightsError: The body of a network is there, but its head is not one layer.
    """
    found = []
    whole = arrays.whole
    file = FileNames(whole, whole.shape, whole.scope)
    for network in NETWORKS:
        library, dialect = network.split("/")[0], find(network).dialect
        if library == "paper" and dialect.names == "torchvision":
            continue  # the paper's ImageNet networks were never published under these names
        sets = find_sets(_wanted(network), file, heads=which != BODY)
        found += [Fit(network=network, weights=one) for one in sets if one.exact]
    return found


def structural_fits(arrays: Arrays, which: str | None = None) -> list[Fit]:
    """Returns every network, published or not, whose table can be read off the shapes.

    Raises:
        WeightsError: The body of a network is there, but its head is not one layer.
    """
    whole = arrays.whole
    file = FileNames(whole, whole.shape, whole.scope)
    found: dict[tuple[str, str], Fit] = {}  # the first one of each set of weights
    for one in structures(file.plain, file.shape):
        wanted = one.wanted
        if wanted is None:
            continue
        for each in find_sets(wanted, file, heads=which != BODY):
            if each.exact:
                fit = Fit(network=one.table.name, weights=each, structure=one)
                found.setdefault((each.label, one.table.name), fit)
    return list(found.values())


def recognise(arrays: Arrays, which: str | None = None) -> tuple[Fit, list[WeightSet]]:
    """Returns the network that the arrays match, and all sets of weights in the file.

    If several networks match and compute the same function, it returns the first one.

    Args:
        arrays: The arrays of a file.
        which: The set of weights, if there are several, as for `forebear.load`.

    Raises:
        WeightsError: No network matches, or networks match that compute different functions. The
            message lists them.
    """
    try:
        found = fits(arrays, which) or structural_fits(arrays, which)
        if not found:
            whole = arrays.whole
            seems = what_it_is(FileNames(whole, whole.shape, whole.scope))
            raise WeightsError(
                f"its {len(arrays)} arrays match none of the {len(NETWORKS)} published networks, "
                "and no other network can be read from their names and shapes "
                f"(first array: {truncated(next(iter(arrays), 'none'))!r})"
                f"{f'; {seems}' if seems else ''}. Expected the weights of a ResNet, a ResNeXt or "
                "an AlexNet. Pass the network, as in --network slim/resnet_v1_50."
            )
        sets = list({fit.weights.label: fit.weights for fit in reversed(found)}.values())[::-1]
        chosen = choose(sets, which, arrays)
        found = [fit for fit in found if fit.weights.label == chosen.label]
        first = found[0].plan()
        different = [fit for fit in found if same_function(first, fit.plan()).answer != "same"]
        if different:
            names = ", ".join(fit.network for fit in found)
            raise WeightsError(
                f"its arrays match {names}, which compute different functions. Expected a choice "
                f"of the network. Pass one of these, as in --network {found[0].network}."
            )
    except WeightsError as error:
        said = str(error)
        raise WeightsError(
            said if said.startswith(str(arrays.path)) else f"{truncated(arrays.path)}: {said}"
        ) from error
    return found[0], sets
