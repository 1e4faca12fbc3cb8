"""An exported graph in place of a network, for what needs only its logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from forebear.engines.engine import Engine
from forebear.engines.graph_card import GraphCard
from forebear.network.model_card import ModelCard
from forebear.tables.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True)
class _Named:
    """What a network's table is to those that only name it."""

    name: str


@dataclass(frozen=True, slots=True)
class _Counted:
    """What is asked of a network's plan."""

    num_classes: int | None
    in_channels: int


class GraphNetwork(nn.Module):
    """Runs a graph in its runtime, on the CPU, in evaluation mode.

    Shape: [N, channels, H, W] floats after the preprocessing -> [N, classes].
    """

    def __init__(self, engine: Engine, card: GraphCard) -> None:
        """Makes the module.

        Args:
            engine: Runs the graph.
            card: Of the graph.
        """
        super().__init__()
        self.engine, self.graph = engine, card
        self.card: ModelCard = card.model_card()
        self.table = _Named(card.network)
        self.plan = _Counted(len(card.classes) or None, card.preprocessing.channels)

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of the weights."""
        return self.card.preprocessing

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of the logits, or an empty tuple."""
        return self.card.classes

    @property
    def multi_label(self) -> bool:
        """Whether an image can have several labels, or none."""
        return self.card.multi_label is not None

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits of images after the preprocessing."""
        rule = self.preprocessing
        shape = (1, -1, 1, 1)
        mean, std = (torch.tensor(values).reshape(shape) for values in (rule.mean, rule.std))
        pixels = (images.float().cpu() * std + mean) / rule.scale
        if rule.order == "BGR":
            pixels = pixels.flip(1)
        held = pixels.permute(0, 2, 3, 1).numpy()
        return torch.from_numpy(self.engine(held))
