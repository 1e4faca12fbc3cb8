"""Sheets of images with captions, drawn with Pillow: training images, and mistakes.

Sheets need no matplotlib, which is an optional extra, and every image keeps its exact pixels. If
matplotlib is installed, its font is used, as Pillow's own has only ASCII.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from forebear.data.images.bands import visible
from forebear.data.labels import NONE
from forebear.files import write_whole
from forebear.tables.preprocessing import Preprocessing
from forebear.tasks.runs.formatting import class_title
from forebear.text import elided

if TYPE_CHECKING:
    from forebear.tasks.evaluate import Evaluation
    from forebear.tasks.label_evaluation import LabelEvaluation

Pixels = NDArray[np.uint8] | NDArray[np.float32]  # [n, H, W, C] in 0..255, C 1 or 3
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

INK, SOFT, RED, PAPER = "#1c1f24", "#5c636e", "#b3261e", "#ffffff"
TILE, GAP, MARGIN = 160, 14, 24  # pixels: side of an image, gap, border
FEW = 12  # images that are shown even if there are fewer mistakes
TEXT, LINE = 15, 20  # pixels: font size and line height
TITLE, HEADING = 18, 26  # pixels: the same for the title


@dataclass(frozen=True, slots=True)
class _Text:
    text: str
    colour: str = INK


def draw_sheet(pixels: Pixels, titles: Sequence[str], path: Path, *, title: str) -> None:
    """Draws images in rows as a PNG, each with its title below.

    Args:
        pixels: Images [n, H, W, C] in 0..255, at least one.
        titles: n titles, such as class names; long ones are cut.
        path: File to write, atomically.
        title: Title of the sheet.

    Raises:
        OSError: The file cannot be written.
    """
    _draw(pixels, [[_Text(class_title(name))] for name in titles], path, title)


def draw_mistakes(
    evaluation: Evaluation,
    pixels_of: Callable[[NDArray[np.int64]], Pixels],
    path: Path,
    *,
    title: str,
    count: int = 36,
) -> None:
    """Draws the worst mistakes as a PNG: true class, predicted class, and probability.

    Args:
        evaluation: Of at least one image.
        pixels_of: Returns the images with these indices, as a `PixelStore` does.
        path: File to write, atomically.
        title: Title of the sheet.
        count: Most images to draw; if there are few mistakes, the least certain correct ones
            follow.

    Raises:
        OSError: The file cannot be written.
    """
    wrong = int((evaluation.labels != evaluation.guesses).sum())
    worst = evaluation.worst(min(count, max(wrong, FEW)))
    captions = []
    for place in worst.tolist():
        truth, guess = evaluation.labels[place], evaluation.guesses[place]
        sure = _percent(float(evaluation.confidences[place]))
        predicted = _Text(f"{sure}: {class_title(evaluation.classes[guess])}", RED)
        if truth == guess:
            predicted = _Text(f"{sure}: correct", SOFT)
        captions.append([_Text(class_title(evaluation.classes[truth])), predicted])
    summary = (
        f"{wrong:,} of {evaluation.images:,} wrong; below each image the true class, in red the "
        "prediction"
    )
    _draw(pixels_of(worst), captions, path, f"{title}\n{summary}")


def draw_label_mistakes(
    evaluation: LabelEvaluation,
    pixels_of: Callable[[NDArray[np.int64]], Pixels],
    path: Path,
    *,
    title: str,
    count: int = 36,
) -> None:
    """Draws the multi-label images with the worst faults as a PNG.

    Below each image are the labels that it was given rightly or wrongly, and those it lacks.

    Args:
        evaluation: Of at least one image.
        pixels_of: Returns the images with these indices, as a `PixelStore` does.
        path: File to write, atomically.
        title: Title of the sheet.
        count: Most images to draw; if there are few faults, the least certain others follow.

    Raises:
        OSError: The file cannot be written.
    """
    wrong = int((evaluation.faults > 0).sum())
    worst = evaluation.worst(min(count, max(wrong, FEW)))
    true, given = evaluation.labels[worst] > 0, evaluation.predicted[worst]
    captions = []
    for own, found in zip(true, given, strict=True):
        lines: list[_Text] = []
        faults = (("wrong", found & ~own), ("missing", own & ~found))
        if (own & found).any() or not own.any():
            lines += _wrapped("", _titles(own & found, evaluation.classes), INK)
        for what, labels in faults:
            if labels.any():
                lines += _wrapped(f"{what}: ", _titles(labels, evaluation.classes), RED)
        captions.append(lines if (own != found).any() else [*lines, _Text("correct", SOFT)])
    summary = f"{wrong:,} of {evaluation.images:,} images have a wrong or missing label, in red"
    _draw(pixels_of(worst), captions, path, f"{title}\n{summary}")


def as_pixels(images: NDArray[np.float32], rule: Preprocessing) -> NDArray[np.uint8]:
    """Turns network inputs back into images, by undoing the preprocessing.

    Args:
        images: Inputs [n, C, H, W].
        rule: Its channel order, scale, mean and std are undone.

    Returns:
        uint8 [n, H, W, C], RGB or greyscale.
    """
    mean, std = (np.array(values, dtype=np.float32) for values in (rule.mean, rule.std))
    values = (images.transpose(0, 2, 3, 1) * std + mean) / rule.scale
    if rule.order == "BGR":
        values = values[..., ::-1]
    return _bytes(values)


def _percent(fraction: float) -> str:
    return f"{fraction:.0%}" if math.isfinite(fraction) else "?"


def _draw(pixels: Pixels, captions: Sequence[Sequence[_Text]], path: Path, title: str) -> None:
    count, lines = len(pixels), max(len(words) for words in captions)
    columns = min(count, max(4, math.ceil(math.sqrt(count))))
    first, *rest = title.split("\n")
    head = MARGIN + (1 + len(rest)) * HEADING + GAP
    step, high = TILE + GAP, TILE + 6 + lines * LINE + GAP
    width = 2 * MARGIN + max(columns, 4) * step - GAP  # wide enough for the title
    height = head + math.ceil(count / columns) * high - GAP + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    _write(sheet, (MARGIN, MARGIN), _Text(first), size=TITLE)
    for number, below in enumerate(rest, start=1):
        _write(sheet, (MARGIN, MARGIN + number * HEADING), _Text(below, SOFT))
    for number, (square, words) in enumerate(zip(pixels, captions, strict=True)):
        left, top = MARGIN + number % columns * step, head + number // columns * high
        tile = _tile(square)
        sheet.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
        for row, line in enumerate(words):
            _write(sheet, (left, top + TILE + 6 + row * LINE), line, within=TILE)
    write_whole(path, lambda partial: sheet.save(partial, format="PNG"))


def _titles(labels: NDArray[np.bool_], classes: Sequence[str]) -> list[str]:
    found = [class_title(classes[at], 40) for at in np.flatnonzero(labels).tolist()]
    return found or [NONE]


def _wrapped(what: str, titles: list[str], colour: str) -> list[_Text]:
    """Returns names as one or two lines below a tile; what does not fit is cut."""
    font, fits = _font(TEXT), 1
    while fits < len(titles):
        if font.getlength(f"{what}{', '.join(titles[: fits + 1])},") > TILE:
            break
        fits += 1
    first, rest = f"{what}{', '.join(titles[:fits])}", ", ".join(titles[fits:])
    return [_Text(f"{first},", colour), _Text(rest, colour)] if rest else [_Text(first, colour)]


def _write(
    sheet: Image.Image,
    place: tuple[int, int],
    words: _Text,
    *,
    size: int = TEXT,
    within: int | None = None,
) -> None:
    """Writes one line of text, cut to `within` pixels or to the width of the sheet."""
    font = _font(size)
    text = _cut(elided(words.text, 200), font, within or sheet.width - place[0] - MARGIN)
    ImageDraw.Draw(sheet).text(place, text, words.colour, font)


def _tile(pixels: NDArray[np.uint8] | NDArray[np.float32]) -> Image.Image:
    """Returns an image [H, W, C] resized to a tile; pixels of small images stay squares."""
    values = visible(_bytes(pixels))
    image = Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values).convert("RGB")
    scale = TILE / max(image.size)
    wanted = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    squares = scale >= 4
    return image.resize(wanted, Image.Resampling.NEAREST if squares else Image.Resampling.LANCZOS)


def _bytes(values: Pixels) -> NDArray[np.uint8]:
    rounded: NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded


def _cut(text: str, font: Font, width: int) -> str:
    """Returns as much of the text as fits, with an ellipsis if it is cut."""
    if font.getlength(text) <= width:
        return text
    keep = len(text)
    while keep and font.getlength(text[:keep].rstrip() + "…") > width:
        keep -= 1
    return text[:keep].rstrip() + "…"


@cache
def _font(size: int) -> Font:
    spec = importlib.util.find_spec("matplotlib")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)
