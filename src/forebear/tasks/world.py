"""The processes that train one network together; most often one alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """This process among all of them."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes files and shows what happens: one does."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def mean(self, values: list[Tensor]) -> None:
        """Puts the mean over all processes into each tensor; integers stay."""
        if self.size > 1:
            for value in values:
                if value.is_floating_point():
                    distributed.all_reduce(value)
                    value /= self.size

    def most(self, values: list[float]) -> list[float]:
        """The greatest of each value over all processes, so that all decide alike."""
        if self.size == 1:
            return values
        found = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return found.tolist()


ALONE = World()
