"""Makes training images smaller if steps turn out to be too long for the budget."""

from __future__ import annotations

from dataclasses import dataclass, field

from forebear.tasks.train.budget.plan import HARDLY, STRIDE
from forebear.tasks.train.budget.progress import Progress
from forebear.tasks.train.budget.timing import Operations

NEWEST = 0.4  # weight of the last step in the moving average


@dataclass(slots=True)
class AdaptiveSize:
    """Chooses the input size of each step from the time of earlier steps."""

    operations: Operations
    batch: int  # images per step of this process
    least: int  # smallest input size of the network in pixels
    progress: Progress
    _image: float = field(default=0.0, init=False)  # seconds per multiply-add
    _steps: int = field(default=0, init=False)
    _whole: float = field(default=0.0, init=False)  # seconds left for training at the first step

    def size(self, wanted: int) -> int:
        """Returns the wanted size in pixels, or the largest smaller one of which 20 steps fit.

        A smaller size is a multiple of 32 and at least half of the wanted one, because the network
        is evaluated at the size that was planned.
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
        """Records the seconds of a step; the first one warms up and does not count."""
        self._steps += 1
        if self._steps < 2:
            return
        image = taken / self.operations.of_step(self.batch, size)
        self._image += (NEWEST if self._image else 1.0) * (image - self._image)
