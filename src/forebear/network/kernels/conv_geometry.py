"""The geometry of a convolution: kernel, stride, padding and output size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """The geometry of a convolution for one input size. Lengths are in pixels."""

    kernel: int
    stride: int
    top: int  # rows of zero padding above the map
    left: int  # columns of zero padding to the left of the map
    height: int  # of the output
    width: int  # of the output
    groups: int = 1
    rate: int = 1  # pixels between neighbouring values of the kernel

    @property
    def side(self) -> int:
        """The longer side of the output."""
        return max(self.height, self.width)

    def sees_all(self, height: int, width: int) -> bool:
        """Whether every output value sees the whole map, as in a fully connected layer.

        `height` and `width` are those of the input.
        """
        down, right = (self.height - 1) * self.stride, (self.width - 1) * self.stride
        return (
            self.groups == self.rate == 1
            and down <= self.top <= self.kernel - height
            and right <= self.left <= self.kernel - width
        )

    def views(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """Returns for each output value the part of the kernel that covers the map.

        `sees_all` must be true for a map of this size.
        """
        tops = [self.top - i * self.stride for i in range(self.height)]
        lefts = [self.left - i * self.stride for i in range(self.width)]
        return [(slice(a, a + height), slice(b, b + width)) for a in tops for b in lefts]
