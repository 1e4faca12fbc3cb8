"""Smaller training images, where steps turn out to be too long for the budget."""

from __future__ import annotations

from dataclasses import dataclass, field

from forebear.tasks.train.budget.plan import HARDLY, STRIDE
from forebear.tasks.train.budget.progress import Progress
from forebear.tasks.train.budget.timing import Operations

NEWEST = 0.4  # weight of the last step in the mean of all


@dataclass(slots=True)
class AdaptiveSize:
    """Chooses the input size of each step by the seconds of those before."""

    operations: Operations
    batch: int  # images of a step of this process
    least: int  # pixels, of the smallest images that the network takes
    progress: Progress
    _image: float = field(default=0.0, init=False)  # seconds a multiply-add
    _steps: int = field(default=0, init=False)
    _whole: float = field(default=0.0, init=False)  # seconds for training, at the first step

    def size(self, wanted: int) -> int:
        """The wanted size in pixels, or the largest smaller one of which 20 steps fit.

        It is a multiple of 32, and half as large at least: the network is evaluated at the size
        that was planned.
        """
        if not self._steps:
            self._whole = self.progress.left
        if self._steps < 2:
            return wanted
        longest = self._whole / HARDLY
        size = wanted
        while self._image * self.operations.of_step(self.batch, size) > longest:
            smaller = (size - 1) // STRIDE * STRIDE
            if smaller < max(self.least, STRIDE, wanted / 2):
                break
            size = smaller
        return size

    def stepped(self, size: int, taken: float) -> None:
        """Takes in the seconds of a step; the first one, which warms up, does not count."""
        self._steps += 1
        if self._steps < 2:
            return
        image = taken / self.operations.of_step(self.batch, size)
        self._image += (NEWEST if self._image else 1.0) * (image - self._image)
