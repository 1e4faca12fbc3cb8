"""Draws a planned network: its feature maps as a row of boxes, and its shortcuts as arcs.

The height of a box shows the side of its map on a square-root scale. The width shows the number of
channels on a power scale. matplotlib is imported only when something is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import ForebearError
from forebear.files import write_whole
from forebear.network.describe.describe import Report
from forebear.network.describe.drawing_layout import Box, Stage, stages

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text


def draw(report: Report, path: Path, *, title: str) -> None:
    """Draws a network to an .svg or .png file. The file is written atomically.

    Args:
        report: The report of the network.
        path: The file. Its suffix selects the format.
        title: The title of the drawing.

    Raises:
        ValueError: The suffix is not .svg or .png, or the folder does not exist.
        ForebearError: matplotlib is not installed, or the file cannot be written.
    """
    if path.suffix not in (".svg", ".png"):
        raise ValueError(
            f"draw={str(path)!r}: expected a file name that ends in .svg or .png. Rename it."
        )
    if not path.parent.is_dir():
        raise ValueError(
            f"draw={str(path)!r}: the folder {str(path.parent)!r} does not exist. Expected a file "
            "in an existing folder. Create the folder first."
        )
    try:
        import matplotlib
    except ImportError as error:
        raise ForebearError(
            f"matplotlib cannot be imported ({error}). Drawings require it. "
            "Run: pip install 'forebear[plots]'"
        ) from error
    drawn = figure(report, title)
    metadata: dict[str, Any] = {"Title": title}
    if path.suffix == ".svg":
        metadata["Date"] = None
    try:
        # A fixed salt and no date make the bytes of the file reproducible.
        with matplotlib.rc_context({"svg.hashsalt": "forebear"}):
            write_whole(path, lambda file: drawn.savefig(file, dpi=2 * _DPI, metadata=metadata))
    except OSError as error:
        raise ForebearError(
            f"{path}: the file cannot be written ({error}). Expected a writable folder with free "
            "space. Choose another folder."
        ) from error


def figure(report: Report, title: str) -> Figure:
    """Returns the drawing as a matplotlib figure with 100 pixels per inch."""
    from matplotlib.figure import Figure

    canvas = _Canvas(stages(report), title, _subtitle(report))
    found = Figure(figsize=(canvas.width / _DPI, canvas.height / _DPI), dpi=_DPI, facecolor="white")
    axes = found.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, canvas.width), ylim=(canvas.height, 0))
    axes.axis("off")
    canvas.paint(axes)
    return found


def _subtitle(report: Report) -> str:
    plan = report.plan
    parts = [
        f"dialect {plan.dialect.name}",
        f"{report.trainable / 1e6:.2f} M parameters",
        f"{report.multiply_adds / 1e9:.3f} G multiply-adds",
        f"output stride {plan.stride}",
    ]
    return "  ·  ".join(parts)


# All lengths below are in pixels of the drawing. Coordinates start at its top left corner.
_DPI = 100
_MARGIN, _WIDEST = 22.0, 1000.0  # the maximum width; a README shows about 900
_TALLEST, _FLATTEST = 132.0, 8.0  # the maximum and minimum height of a box
_LINE = 14.0  # the height of a line of text
_UNIT_GAP, _STAGE_GAP = 9.0, 12.0
_LEGEND_GAP = 22.0
_MORE = 40.0  # the width of a box for several units
_DEEP = 4.5  # the depth of a box
_TOP, _ABOVE = 62.0, 24.0  # the space for the title, and for the arcs
_TITLE, _SUBTITLE, _NAME, _TEXT = 13.0, 8.5, 9.0, 8.0  # points
_BLOCKS = ("#3f6fb0", "#2a9d8f", "#7fae4d", "#e2a336", "#dd6b4d", "#b5588e", "#7659a6", "#5a7f9e")
_KINDS = {"image": "#c3c9d4", "other": "#8b95a7", "head": "#4a5263"}
_INK, _SOFT, _STEP, _AXIS = "#23272f", "#69717f", "#c0392b", "#d7dbe2"
_FONT = "DejaVu Sans"  # part of matplotlib
_HINTED = 1.03  # the maximum ratio of the width of drawn text to that of its outlines
_DASHES = (0, (2.2, 1.4))


@dataclass(frozen=True, slots=True)
class _Placed:
    stage: Stage
    colour: str
    left: float
    width: float


class _Row:
    """A row of stages. The tallest box determines its height."""

    def __init__(self, places: Sequence[_Placed], scale: float) -> None:
        boxes = [box for placed in places for box in placed.stage.boxes]
        self.places = places
        self.tall = max(_FLATTEST, *(scale * box.side**0.5 for box in boxes))
        self.below = 20.0 + (18.0 if any(box.rate > 1 for box in boxes) else 0.0)
        lines = max(len(placed.stage.lines) for placed in places) + 1
        self.height = _ABOVE + self.tall + self.below + lines * _LINE + 14
        self.right = places[-1].left + places[-1].width


class _Canvas:
    """Stages arranged in rows, and the code that draws them."""

    def __init__(self, chain: Sequence[Stage], title: str, subtitle: str) -> None:
        self.title, self.subtitle = title, subtitle
        boxes = [box for stage in chain for box in stage.boxes]
        self.scale = _TALLEST / max(box.side for box in boxes) ** 0.5
        self.rows = [_Row(places, self.scale) for places in _rows(chain)]
        self.legend = _legend(boxes)
        legend = sum(width + _text_width(text) + _LEGEND_GAP for _, width, text in self.legend)
        above = max(_text_width(title, _TITLE, "bold"), _text_width(subtitle, _SUBTITLE))
        rights = (legend, above + _MARGIN, *(row.right for row in self.rows))
        self.width = max(rights) + _MARGIN
        self.height = _TOP + sum(row.height for row in self.rows) + 30

    def paint(self, axes: Axes) -> None:
        """Draws everything on the axes."""
        bold: dict[str, Any] = {"size": _TITLE, "color": _INK, "weight": "bold"}
        _words(axes, _MARGIN, 24, self.title, ha="left", **bold)
        _words(axes, _MARGIN, 45, self.subtitle, ha="left", size=_SUBTITLE)
        top = _TOP
        for row in self.rows:
            middle = top + _ABOVE + row.tall / 2
            self._axis(axes, row, middle)
            for placed in row.places:
                self._stage(axes, placed, row, middle)
            top += row.height
        self._marks(axes)

    def _axis(self, axes: Axes, row: _Row, middle: float) -> None:
        first, last = row.places[0], row.places[-1]
        more = row is not self.rows[-1]
        start = first.left + first.width / 2 if row is self.rows[0] else _MARGIN
        end = self.width - _MARGIN if more else last.left + last.width / 2
        axes.plot([start, end], [middle, middle], color=_AXIS, linewidth=1.4, zorder=1)
        if more:
            axes.plot([end], [middle], marker=">", markersize=5, color=_AXIS, zorder=1)

    def _stage(self, axes: Axes, placed: _Placed, row: _Row, middle: float) -> None:
        left = placed.left + (placed.width - _boxes_width(placed.stage)) / 2
        floor = middle + row.tall / 2
        rates: list[tuple[float, float, int]] = []
        for box in placed.stage.boxes:
            width, height = _box_width(box), max(_FLATTEST, self.scale * box.side**0.5)
            top = middle - height / 2
            self._box(axes, box, (left, top, width, height), placed.colour)
            if box.arc != "none":
                self._arc(axes, box, left, width, top, placed.colour)
            if box.coarser > 1:
                text = f"↓{box.coarser}"
                drawn = _words(axes, left + width / 2, floor + 10, text, color=_STEP, weight="bold")
                drawn.set_gid(f"stride {box.path}")
            rates.append((left, left + width, box.rate))
            left += width + _UNIT_GAP
        self._rates(axes, rates, floor + 22)
        centre, line = placed.left + placed.width / 2, floor + row.below + 8
        _words(axes, centre, line, placed.stage.name, size=_NAME, color=_INK, weight="bold")
        for text in placed.stage.lines:
            line += _LINE
            _words(axes, centre, line, text)

    def _box(
        self, axes: Axes, box: Box, place: tuple[float, float, float, float], colour: str
    ) -> None:
        from matplotlib.patches import Polygon

        left, top, width, height = place
        back = min(_DEEP, height / 3)
        right, bottom = left + width, top + height
        front = _mix(colour, "#ffffff", 0.55) if box.count > 1 else colour
        faces = (
            ([(left, top), (left + back, top - back), (right + back, top - back), (right, top)],
             _mix(front, "#ffffff", 0.4)),
            ([(right, top), (right + back, top - back), (right + back, bottom - back),
              (right, bottom)], _mix(front, "#000000", 0.2)),
            ([(left, top), (right, top), (right, bottom), (left, bottom)], front),
        )  # fmt: skip
        for corners, shade in faces:
            patch = Polygon(corners, facecolor=shade, edgecolor="white", linewidth=0.5, zorder=3)
            axes.add_patch(patch)
        patch.set_gid(f"box {box.path}")
        if box.count > 1:
            x, y, text = (left + right) / 2, (top + bottom) / 2, f"x {box.count}"
            _words(axes, x, y, text, color=_INK, weight="bold", zorder=5)

    def _arc(
        self, axes: Axes, box: Box, left: float, width: float, top: float, colour: str
    ) -> None:
        from matplotlib import patches, path

        start, end, foot = left - 1.5, left + width + 4.5, top - _DEEP - 2.5
        corners = [(start, foot), (start, foot - 17), (end, foot - 17), (end, foot)]
        codes = [path.Path.MOVETO, *[path.Path.CURVE4] * 3]
        dashed = box.arc == "projection"
        patch = patches.PathPatch(
            path.Path(corners, codes),
            facecolor="none",
            edgecolor=colour,
            linewidth=1.5,
            linestyle=_DASHES if dashed else "solid",
            capstyle="butt" if dashed else "round",
            zorder=4,
        )
        patch.set_gid(f"{box.arc} {box.path}")
        axes.add_patch(patch)

    def _rates(self, axes: Axes, rates: Sequence[tuple[float, float, int]], y: float) -> None:
        for rate, run in groupby(rates, key=lambda item: item[2]):
            if rate > 1:
                spans = list(run)
                start, end = spans[0][0], spans[-1][1]
                axes.plot([start, end], [y, y], color=_SOFT, linewidth=1.3, solid_capstyle="butt")
                text = f"rate {rate}" if end - start > 42 else f"r{rate}"
                _words(axes, (start + end) / 2, y + 8, text)

    def _marks(self, axes: Axes) -> None:
        x, y = _MARGIN, self.height - 18
        axes.plot([x, self.width - _MARGIN], [y - 15, y - 15], color=_AXIS, linewidth=0.8)
        for mark, width, text in self.legend:
            if mark in ("identity", "projection"):
                style = _DASHES if mark == "projection" else "solid"
                axes.plot([x, x + 18], [y, y], color=_INK, linewidth=1.5, linestyle=style)
            else:
                _words(axes, x, y, mark, color=_STEP, weight="bold", ha="left")
            x += width
            _words(axes, x, y, text, ha="left")
            x += _text_width(text) + _LEGEND_GAP


def _legend(boxes: Sequence[Box]) -> list[tuple[str, float, str]]:
    """Returns (mark, width, meaning) for everything that occurs in the drawing."""
    arcs = {box.arc for box in boxes}
    marks = [("", 0.0, "maps: channels x height x width")]
    marks += [("identity", 24.0, "identity shortcut")] if "identity" in arcs else []
    marks += [("projection", 24.0, "1x1 projection")] if "projection" in arcs else []
    for stride in sorted({box.coarser for box in boxes} - {1}):
        marks.append((f"↓{stride}", 20.0, f"stride {stride}"))
    if any(box.rate > 1 for box in boxes):
        marks.append(("", 0.0, "r2: rate 2"))
    return marks


def _rows(chain: Sequence[Stage]) -> list[list[_Placed]]:
    """Returns the stages in the fewest rows that fit the maximum width, as equal as possible."""
    rows = _fill(chain, _WIDEST)
    narrower = (_fill(chain, float(width)) for width in range(int(_WIDEST), 0, -10))
    return list(takewhile(lambda even: len(even) == len(rows), narrower))[-1]


def _fill(chain: Sequence[Stage], widest: float) -> list[list[_Placed]]:
    rows: list[list[_Placed]] = [[]]
    left, coloured = _MARGIN, 0
    for stage in chain:
        width = max(_boxes_width(stage), _label_width(stage))
        if left + width > widest - _MARGIN and rows[-1]:
            rows.append([])
            left = _MARGIN
        if stage.kind in _KINDS:
            colour = _KINDS[stage.kind]
        else:
            colour = _BLOCKS[coloured % len(_BLOCKS)]
            coloured += 1
        rows[-1].append(_Placed(stage, colour, left, width))
        left += width + _STAGE_GAP
    return rows


def _boxes_width(stage: Stage) -> float:
    widths = [_box_width(box) for box in stage.boxes]
    return sum(widths) + _UNIT_GAP * (len(widths) - 1)


def _box_width(box: Box) -> float:
    return _MORE if box.count > 1 else max(4.0, 5.5 * (box.channels / 64) ** 0.42)


def _label_width(stage: Stage) -> float:
    name = _text_width(stage.name, _NAME, "bold")
    return max(name, *(_text_width(line) for line in stage.lines))


@cache
def _text_width(text: str, size: float = _TEXT, weight: str = "normal") -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=_FONT, weight=weight, size=size)
    width: float = text_to_path.get_text_width_height_descent(text, font, False)[0]
    return width * _HINTED * _DPI / 72


def _words(axes: Axes, x: float, y: float, text: str, **style: Any) -> Text:
    """Draws small grey text, centred by default. `style` overrides the defaults."""
    plain: dict[str, Any] = {"size": _TEXT, "color": _SOFT, "family": _FONT, "parse_math": False}
    return axes.text(x, y, text, **{"ha": "center", "va": "center", **plain, **style})


def _mix(colour: str, other: str, share: float) -> str:
    """Returns `colour` mixed with a fraction `share` of `other`, all as "#rrggbb"."""
    pairs = [(int(colour[at : at + 2], 16), int(other[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)
