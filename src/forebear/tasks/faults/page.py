"""Writes the suggestions for a data set: suggestions.csv, and suggestions.html with thumbnails.

The page needs no other file. This module chooses the contents; page.html.j2 has the markup.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from forebear.data.dataset import Dataset, Images
from forebear.data.images.bands import as_image
from forebear.data.labels import without_label
from forebear.errors import DataError
from forebear.files import write_text
from forebear.tasks.faults.observe import all_images
from forebear.tasks.faults.suggestions import Faults, Kind, Suggestion
from forebear.tasks.html_template import template
from forebear.text import elided, printable

TABLE, PAGE = "suggestions.csv", "suggestions.html"
SHOWN = 60  # suggestions of each kind on the page; the table has all of them
SIDE = 160  # pixels: longest side of a thumbnail
_QUALITY = 80  # of its JPEG; 60 x 4 thumbnails of about 5 kB give a page of 2 MB at most


@dataclass(frozen=True, slots=True)
class _Card:
    """A suggestion on the page."""

    # the data URI of each image, "" if unreadable; its path, and the part of it that is shown
    images: tuple[tuple[str, str, str], ...]
    title: str
    facts: str


@dataclass(frozen=True, slots=True)
class _Section:
    """The suggestions of one kind."""

    title: str
    advice: str
    cards: tuple[_Card, ...]
    more: int  # suggestions that are only in the table


_ADVICE: dict[Kind, tuple[str, str]] = {
    "label": (
        "Likely label errors",
        "The score is 1 minus the probability that the image has its label.",
    ),
    "near-duplicate": (
        "Near-duplicates",
        "Pairs across training and validation come first, as they inflate validation accuracy. "
        "The score is the cosine similarity of the features.",
    ),
    "outlier": (
        "Outliers",
        "The score is the distance to the nearest images of the class, in robust standard "
        "deviations above the median.",
    ),
}


_SEVERAL = (
    "“Also” names labels that the image likely has too, and “not” labels that it likely has not. "
    "The score is 1 minus the probability of what is given, of the least likely label."
)


def check_folder(folder: Path, *, replace: bool) -> None:
    """Checks that the suggestions may be written to a folder.

    Raises:
        ValueError: It is a file, or it is not empty and `replace` is false.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(
            f"{printable(folder)}: it is a file. Expected a folder. Pass another --out."
        )
    if folder.is_dir() and not replace and any(folder.iterdir()):
        raise ValueError(
            f"{printable(folder)}: the folder is not empty. Expected a new or an empty folder. "
            f"Pass another --out, or --replace to overwrite its {TABLE} and {PAGE}."
        )


def write_suggestions(folder: Path, faults: Faults, data: Dataset) -> None:
    """Writes the table and the page, each of them atomically.

    Args:
        folder: An existing one.
        faults: What was found.
        data: The same data set, of which thumbnails are made.

    Raises:
        OSError: A file cannot be written.
    """
    write_text(folder / TABLE, faults.csv())
    write_text(folder / PAGE, page(faults, data))


def page(faults: Faults, data: Dataset) -> str:
    """Returns the page as HTML; the template escapes all text."""
    images = all_images(data)
    return template("forebear.tasks.faults", "page.html.j2", elided).render(
        data=data.spec,
        images=faults.images,
        skipped=faults.skipped,
        unlabelled=without_label(np.concatenate([data.train.labels, data.val.labels])),
        across=faults.across,
        counts=faults.counts,
        methods=faults.methods,
        table=TABLE,
        sections=[
            _section(kind, faults, lambda place: thumbnail(images, place)) for kind in _ADVICE
        ],
    )


def thumbnail(images: Images, place: int) -> str:
    """Returns an image as the data URI of a JPEG of about 160 pixels; "" if it cannot be read."""
    try:
        image = as_image(images.image(place))
    except DataError:
        return ""
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=2.0)
    if max(image.size) <= SIDE // 2:  # its pixels are shown as squares
        times = SIDE // max(image.size)
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    file = BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _section(kind: Kind, faults: Faults, uri_of: Callable[[int], str]) -> _Section:
    (title, advice), found = _ADVICE[kind], faults.of(kind)
    if any(one.change for one in found):
        advice = _SEVERAL
    root = _root([path for one in faults.suggestions for path in (one.path, one.other_path)])
    cards = tuple(_card(one, uri_of, root) for one in found[:SHOWN])
    return _Section(title, advice, cards, len(found) - len(cards))


def _root(paths: Sequence[str]) -> int:
    """Returns the length of the folder that all paths begin with, which the page leaves out."""
    named = [path for path in paths if path]
    if not named:
        return 0
    first, last = min(named), max(named)  # all others lie between them
    alike = next(
        (at for at, pair in enumerate(zip(first, last, strict=False)) if len(set(pair)) > 1), None
    )
    return first[:alike].rfind("/") + 1


def _card(one: Suggestion, uri_of: Callable[[int], str], root: int) -> _Card:
    images = [(uri_of(one.place), one.path, one.path[root:])]
    if one.other is not None:
        images.append((uri_of(one.other), one.other_path, one.other_path[root:]))
    arrow = f" → {one.change or one.suggested}" if one.suggested else ""
    part = "validation" if one.part == "val" else "training"
    label = one.label.replace(";", "; ") if one.change else one.label
    return _Card(tuple(images), f"{label}{arrow}", f"{part}, score {one.shown_score}")
