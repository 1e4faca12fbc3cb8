"""Recognises AlexNet v2 in a graph: one chain of convolutions and pools without residual units.

TF-Slim's and torchvision's are told apart by pads and kernels. The linear layers are convolutions,
as in forebear's own graphs; those of torchvision's module are Gemm nodes, which are refused.
"""

from __future__ import annotations

from dataclasses import replace

from forebear.network.plan.expand import expand
from forebear.network.plan.plan import Plan
from forebear.tables.alexnet import ALEXNET, ALEXNET_V2
from forebear.tables.dialects import SLIM_ALEXNET, TORCHVISION_ALEXNET
from forebear.tables.rows import Conv, Pool, Table
from forebear.weights.graphs.compare import Difference, first_difference
from forebear.weights.graphs.facts import ConvFact, GraphFacts, PoolFact, StrangerError
from forebear.weights.graphs.match import Match

_ALEXNETS = ((ALEXNET_V2, SLIM_ALEXNET), (ALEXNET, TORCHVISION_ALEXNET))
# Whether each layer is a convolution, or a max pool. Both AlexNets have the same.
_KINDS = tuple(
    isinstance(row, Conv)
    for row in (*ALEXNET_V2.root, *ALEXNET_V2.layers)
    if isinstance(row, (Conv, Pool))
)
_FEATURES = 5  # convolutions before the first linear layer
_TORCHVISION = (
    "an AlexNet whose linear layers are no convolutions is not read from a graph: pass the "
    "checkpoint that it was exported from"
)


def check_chain(root: list[ConvFact | PoolFact]) -> None:
    """Checks that a graph without residual units has the layers of AlexNet v2.

    Raises:
        StrangerError: It has others.
    """
    kinds = tuple(isinstance(row, ConvFact) for row in root)
    if kinds == _KINDS:
        return
    alexnet = kinds == _KINDS[: len(kinds)] and sum(kinds) == _FEATURES
    raise StrangerError(
        f"the graph has 0 residual units, and {sum(kinds)} convolutions in a chain",
        f"residual units, or the {sum(_KINDS)} convolutions of AlexNet v2",
        _TORCHVISION if alexnet else "",
    )


def match_chain(facts: GraphFacts) -> Match:
    """Returns the AlexNet with the layers and the channels of a graph.

    Raises:
        StrangerError: A layer is another. The message names the first node that differs.
    """
    worst: Difference | None = None
    for table, dialect in _ALEXNETS:
        own = _with_channels(table, facts)
        plan = expand(own, dialect, num_classes=facts.head.classes, in_channels=facts.in_channels)
        found = first_difference(plan, facts) or _average(plan, facts)
        if found is None:
            return Match(table=own, dialect=dialect, plan=plan)
        worst = found if worst is None or found.place > worst.place else worst
    assert worst is not None
    raise StrangerError(worst.what, worst.expected)


def _with_channels(table: Table, facts: GraphFacts) -> Table:
    channels = iter([row.channels for row in facts.root if isinstance(row, ConvFact)])
    root = tuple(
        replace(row, channels=next(channels)) if isinstance(row, Conv) else row
        for row in table.root
    )
    layers = tuple(
        replace(row, channels=next(channels)) if isinstance(row, Conv) else row
        for row in table.layers
    )
    return replace(table, root=root, layers=layers)


def _average(plan: Plan, facts: GraphFacts) -> Difference | None:
    """Returns a difference if an average pool that a graph leaves out is not the identity."""
    side = next((layer.side for layer in plan.layers() if layer.kind == "average"), None)
    first = [row for row in facts.root if isinstance(row, ConvFact)][_FEATURES]
    if side is None or first.window.side == side:
        return None
    place = len(facts.root)
    what = f"node {first.node.shown} takes maps of {first.window.side or 'any number of'} pixels"
    return Difference(place, what, f"{side}, which torchvision's average pool gives")
