"""How a kernel moves over a map: what the faster ways of a convolution ask about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """How a kernel moves over one size of map; its rate is 1."""

    kernel: int
    stride: int
    top: int  # rows of zeros before the map
    left: int
    height: int  # of the map given out
    width: int
    groups: int = 1

    @property
    def side(self) -> int:
        """The longer side of the map given out."""
        return max(self.height, self.width)

    def sees_all(self, height: int, width: int) -> bool:
        """Whether every output value sees all of such a map: a fully connected layer."""
        down, right = (self.height - 1) * self.stride, (self.width - 1) * self.stride
        return (
            self.groups == 1
            and down <= self.top <= self.kernel - height
            and right <= self.left <= self.kernel - width
        )

    def views(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """The taps that lie on such a map, for each output value of a window that sees all."""
        tops = [self.top - i * self.stride for i in range(self.height)]
        lefts = [self.left - i * self.stride for i in range(self.width)]
        return [(slice(a, a + height), slice(b, b + width)) for a in tops for b in lefts]
