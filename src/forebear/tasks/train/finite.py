"""Steps whose loss or gradient is not finite: left out, counted, and after a few in a row an error.

A step that is left out changes nothing: weights, momenta, running values and the average stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from forebear.errors import RunError
from forebear.tasks.train.recipe import Recipe

PATIENCE = 3  # steps in a row that may be left out


class FiniteGuard:
    """Remembers a network's buffers before a step, and restores them if the step is left out."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        """Allocates copies of the buffers.

        Args:
            network: Whose running values a step changes in its forward pass.
            device: Where its steps are computed.
        """
        self.running = [b for b in network.buffers() if b.is_floating_point()]
        self._counts = [b for b in network.buffers() if not b.is_floating_point()]
        self._kept, self._kept_counts = (
            [torch.empty_like(one) for one in some] for some in (self.running, self._counts)
        )
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)  # steps left out
        self.in_row = torch.zeros((), dtype=torch.int64, device=device)  # of these, the last ones

    def remember(self) -> None:
        """Keeps the buffers as they are before a step."""
        _copy(self._kept, self.running)
        _copy(self._kept_counts, self._counts)

    def judge(self, norm: Tensor, seen: Tensor | None) -> Tensor:
        """Counts the step, and returns whether it is to be left out; does not wait for the device.

        Args:
            norm: [], of all gradients together.
            seen: [n], sums of losses. With them the running values are checked too, as a variance
                can overflow alone. None checks the gradient only, which is equal in all processes.

        Returns:
            [], bool.
        """
        bad = ~norm.isfinite()
        if seen is not None:
            good = seen.isfinite().all()
            if self.running:
                good &= torch.stack(torch._foreach_norm(self.running)).isfinite().all()
            bad |= ~good
        self.skipped += bad
        self.in_row += 1
        self.in_row *= bad
        return bad

    def restore(self) -> None:
        """Puts the buffers back as they were before the step."""
        _copy(self.running, self._kept)
        _copy(self._counts, self._kept_counts)

    def restore_if(self, bad: Tensor) -> None:
        """Does so if `bad` is true, without waiting for the device."""
        for some, kept in ((self.running, self._kept), (self._counts, self._kept_counts)):
            _copy(some, [torch.where(bad, k, b) for k, b in zip(kept, some, strict=True)])

    def check(self, step: int, recipe: Recipe) -> None:
        """Waits for the device, and ends a run whose steps are no longer finite.

        Args:
            step: The last step, counted from 1.
            recipe: Its learning rate is part of the advice.

        Raises:
            RunError: More than three steps in a row were left out.
        """
        if int(self.in_row) > PATIENCE:
            raise RunError(
                f"the loss or its gradient was not finite at {int(self.in_row)} steps in a row, up "
                f"to step {step}. Expected finite values; these steps were left out, and the last "
                f"good weights are saved. Try a smaller learning rate, --lr {recipe.lr / 4:g}, and "
                "look at the images with forebear check."
            )

    def count(self, *, skipped: int, in_row: int = 0) -> None:
        """Sets the number of steps that were left out."""
        self.skipped.fill_(skipped)
        self.in_row.fill_(in_row)


def _copy(places: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    if places:
        torch._foreach_copy_(list(places), list(values))
