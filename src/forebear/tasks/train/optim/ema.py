"""The exponential moving average of a network, which is often better than its last weights.

torch.optim.swa_utils.AveragedModel (torch 2.13) does not fit here: every update waits for the GPU,
because it reads or copies a counter, and the first update replaces the average.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class EMA:
    """A moving average of all floating-point parameters and buffers; integers are copied.

    After t updates, the next one keeps min(decay ** every, (1 + t) / (10 + t)) of the average, so
    that the first steps are soon forgotten, as in tf.train.ExponentialMovingAverage with
    num_updates. The running values of norms are averaged too, as the average network needs them.
    """

    def __init__(self, network: nn.Module, decay: float, every: int = 1) -> None:
        """Copies a network that is on the device where it will be trained.

        Args:
            network: To be averaged.
            decay: Fraction of the average that a step keeps.
            every: Steps between two updates.
        """
        self.decay, self.every = decay, every
        self.steps = 0
        self._theirs = dict(network.named_parameters()) | dict(network.named_buffers())
        self._ours = {name: tensor.detach().clone() for name, tensor in self._theirs.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Counts a step, and updates the average if it is time."""
        self.steps += 1
        if self.steps % self.every:
            return
        done = self.steps // self.every - 1
        kept = min(self.decay**self.every, (1 + done) / (10 + done))
        ours, theirs = self._pairs(floats=True)
        torch._foreach_lerp_(ours, theirs, 1 - kept)
        ours, theirs = self._pairs(floats=False)
        if ours:
            torch._foreach_copy_(ours, theirs)

    def _pairs(self, *, floats: bool) -> tuple[list[Tensor], list[Tensor]]:
        names = [n for n, ours in self._ours.items() if ours.is_floating_point() == floats]
        return [self._ours[name] for name in names], [self._theirs[name] for name in names]

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Puts the average into the network within the context, to be evaluated or saved."""
        own = {name: tensor.detach().clone() for name, tensor in self._theirs.items()}
        try:
            self._fill(self._theirs, self._ours)
            yield
        finally:
            self._fill(self._theirs, own)

    def state_dict(self) -> dict[str, Any]:
        """Returns the number of steps, and every tensor under its name in the network."""
        return {"steps": self.steps, "values": dict(self._ours)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned.

        Raises:
            ValueError: It is of another network.
        """
        values = state["values"]
        if values.keys() != self._ours.keys():
            raise ValueError("its average is of another network")
        self._fill(self._ours, values)
        self.steps = int(state["steps"])

    @staticmethod
    @torch.no_grad()
    def _fill(places: dict[str, Tensor], values: dict[str, Tensor]) -> None:
        for name, place in places.items():
            place.copy_(values[name])
