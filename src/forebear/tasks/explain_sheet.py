"""Draws the explanations of one image next to each other, as a PNG, with matplotlib.

The title says what is explained and what the colours mean. A heat map lies over a grey copy of the
image, because its own colours could be taken for those of the map. Every place is in pixels, so
that no text meets another; text that is too long is cut.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from forebear.data.images.bands import visible
from forebear.errors import ForebearError
from forebear.files import write_whole
from forebear.tasks.explain import Explanation
from forebear.tasks.runs.formatting import class_title
from forebear.text import elided

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK, _SOFT = "#1c1f24", "#5c636e"
_COLOURS = "RdBu_r"  # of matplotlib: red above 0, blue below, distinct with every colour vision
_MOST = 0.75  # opacity of the largest value of a map
_DPI = 100  # so that a point is 100 / 72 pixels
# Pixels
_PANEL, _TILE, _GAP, _MARGIN, _BAR = 320, 150, 16, 24, 14
_HEAD, _LINE, _BELOW = 124, 24, 40  # the title, a line of text, two lines under a tile
_COLUMNS = 6  # tiles in a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A neighbour on the sheet."""

    pixels: NDArray[np.uint8]  # [h, w, C], RGB or greyscale
    class_name: str
    similarity: float


def draw_explanations(
    found: Sequence[Explanation],
    path: Path,
    *,
    image: str,
    tiles: Sequence[Tile] = (),
    heading: str = "",
) -> None:
    """Draws the image as the network sees it, and each map over it, as a PNG.

    Args:
        found: Explanations of one image and one class, at least one.
        path: File to write, atomically.
        image: Name of the image.
        tiles: Neighbours, the nearest first; none leaves that part out.
        heading: What the neighbours are.

    Raises:
        ForebearError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    check_matplotlib()
    with warnings.catch_warnings():  # a letter that the font lacks becomes a box
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        sheet = _Sheet(len(found), len(tiles))
        sheet.title(found, image)
        sheet.panels(found)
        sheet.neighbours(tiles, heading)
        write_whole(path, lambda partial: sheet.figure.savefig(partial, dpi=_DPI, format="png"))


def check_matplotlib() -> None:
    """Checks that sheets can be drawn.

    Raises:
        ForebearError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ForebearError(
            f"matplotlib cannot be imported ({error}). Expected the library that draws. "
            "Run: pip install 'forebear[explain]'"
        ) from error


class _Sheet:
    """A figure that is filled from the top, in pixels."""

    def __init__(self, maps: int, tiles: int) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        rows = -(-tiles // _COLUMNS)
        panels = (1 + maps) * (_PANEL + _GAP) + _BAR + 60  # 60: the words next to the colours
        across = min(tiles, _COLUMNS) * (_TILE + _GAP) - _GAP
        self.width = 2 * _MARGIN + max(panels, across, 3 * (_PANEL + _GAP))
        self.height = _HEAD + _LINE + _PANEL + _MARGIN
        if rows:
            self.height += _LINE + 12 + rows * (_TILE + _BELOW + _GAP)
        self.figure: Figure = Figure((self.width / _DPI, self.height / _DPI), dpi=_DPI)
        canvas: Any = FigureCanvasAgg(self.figure)
        self._renderer = canvas.get_renderer()

    def title(self, found: Sequence[Explanation], image: str) -> None:
        """Writes what is explained, and what the colours and the numbers mean."""
        first, hidden = found[0], any(one.method == "occlusion" for one in found)
        name = class_title(first.class_name, 60)
        best, share = first.top(1)[0]
        said = "the prediction"
        if best != first.class_name:
            said = f"the prediction is {class_title(best, 60)}, {_percent(share)}"
        room = self.width - 2 * _MARGIN
        self._write(f"{name}, {_percent(first.probability)} ({said})", 22, 14, room)
        self._write(image, 50, 10, room, _SOFT)
        colours = (
            f"Red places speak for {class_title(first.class_name, 40)}, blue ones against it; the "
            "darkest colour is the largest value of a map."
        )
        self._write(colours, 70, 10, room, _SOFT)
        if hidden:
            hides = (
                "Occlusion hides squares one at a time: the probability falls (red) or rises "
                "(blue), by up to the given number of percentage points."
            )
            self._write(hides, 90, 10, room, _SOFT)

    def panels(self, found: Sequence[Explanation]) -> None:
        """Draws the image, the maps over it, and the scale of the colours."""
        pixels = found[0].pixels
        top = _HEAD + _LINE
        size = f"{pixels.shape[0]} x {pixels.shape[1]} pixels"
        self._write(f"what the network sees, {size}", _HEAD, 10, _PANEL)
        _show(self._axes(_MARGIN, top, _PANEL, _PANEL), pixels)
        left = _MARGIN
        for one in found:
            left += _PANEL + _GAP
            self._write(_panel_title(one), _HEAD, 10, _PANEL, left=left)
            axes = self._axes(left, top, _PANEL, _PANEL)
            _show(axes, _grey(pixels))
            largest = float(np.abs(one.map).max()) or 1.0
            strength = one.map / largest
            axes.imshow(
                strength, cmap=_COLOURS, vmin=-1, vmax=1, alpha=_MOST * np.abs(strength),
                interpolation="bilinear",
            )  # fmt: skip
        bar = self._axes(left + _PANEL + _GAP, top, _BAR, _PANEL)
        bar.imshow(np.linspace(1, -1, 256)[:, None], cmap=_COLOURS, aspect="auto")
        for word, down in (("for", 6), ("none", _PANEL // 2), ("against", _PANEL - 6)):
            place = left + _PANEL + _GAP + _BAR + 6
            self._write(word, top + down - 7, 9, 60, _SOFT, left=place)

    def neighbours(self, tiles: Sequence[Tile], heading: str) -> None:
        """Draws the neighbours in rows, each with its class and its similarity below."""
        if not tiles:
            return
        top = _HEAD + _LINE + _PANEL + 12
        self._write(heading, top, 10, self.width - 2 * _MARGIN)
        top += _LINE
        for number, tile in enumerate(tiles):
            row, column = divmod(number, _COLUMNS)
            left = _MARGIN + column * (_TILE + _GAP)
            above = top + row * (_TILE + _BELOW + _GAP)
            _show(self._axes(left, above, _TILE, _TILE), tile.pixels)
            self._write(class_title(tile.class_name), above + _TILE + 4, 9, _TILE, left=left)
            similarity = f"similarity {tile.similarity:.3f}"
            self._write(similarity, above + _TILE + 20, 9, _TILE, _SOFT, left=left)

    def _axes(self, left: float, top: float, width: float, height: float) -> Any:
        down = self.height - top - height
        box = (left / self.width, down / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box)
        axes.set_axis_off()
        return axes

    def _write(
        self, text: str, top: float, size: float, room: float, colour: str = _INK, *,
        left: float = _MARGIN,
    ) -> None:  # fmt: skip
        """Writes one line, cut to `room` pixels."""
        from matplotlib.font_manager import FontProperties

        font = FontProperties(size=size)

        def wide(line: str) -> float:
            width, _, _ = self._renderer.get_text_width_height_descent(line, font, ismath=False)
            return float(width)

        line = elided(text, 300)
        most = len(line)
        while most > 1 and wide(line) > room:
            most -= 1
            line = elided(text, most)
        self.figure.text(
            left / self.width, 1 - top / self.height, line, fontproperties=font, color=colour,
            verticalalignment="top", parse_math=False,
        )  # fmt: skip


def _panel_title(one: Explanation) -> str:
    if one.method == "grad-cam":
        none = "" if one.map.any() else ", nothing speaks for it"
        return f"Grad-CAM at {one.end_point}{none}"
    place = int(np.abs(one.map).argmax())
    change = -float(one.map.flat[place])
    return f"occlusion, {one.window} px: {_changed(change)}"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 or share == 0 else f"{share:.1e}"


def _changed(change: float) -> str:
    """Says by how much a probability changes, in percentage points."""
    points, verb = 100 * abs(change), "rises" if change > 0 else "falls"
    return f"{verb} by up to {points:.1f}" if points >= 0.1 else f"{verb} by up to {points:.0e}"


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns a pale greyscale copy, [h, w, 1], on which colours are seen."""
    mean = pixels.astype(np.float32).mean(2, keepdims=True)
    pale: NDArray[np.uint8] = (64 + 0.75 * mean).astype(np.uint8)
    return pale


def _show(axes: Any, pixels: NDArray[np.uint8]) -> None:
    """Shows an image in the middle of its place; pixels of small images stay squares."""
    pixels = visible(pixels)
    squares = "nearest" if max(pixels.shape[:2]) <= _PANEL // 4 else "lanczos"
    if pixels.shape[2] == 1:
        axes.imshow(pixels[:, :, 0], cmap="gray", vmin=0, vmax=255, interpolation=squares)
    else:
        axes.imshow(pixels, interpolation=squares)
