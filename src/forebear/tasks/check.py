"""Decodes every image of a data set, and finds unusable, unusual and duplicate ones."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath

from forebear.data.dataset import Dataset, Images
from forebear.data.groups import Groups
from forebear.data.images.bands import look_at_any_image
from forebear.data.images.decode import Facts
from forebear.data.images.large import GATE
from forebear.data.labels import counts, names, without_label
from forebear.errors import DataError
from forebear.files import write_whole
from forebear.hardware import processor

_CHUNK = 256  # images between two progress reports
_FORMATS = {  # format by file name extension
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".gif": "GIF",
    ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP", ".ppm": "PPM", ".pgm": "PPM",
    ".pbm": "PPM", ".pnm": "PPM",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One image."""

    name: str
    part: str  # train, val or test
    label: str  # name of the class, or of several labels with ; between them
    group: str | None  # None without --group-by
    bytes: int | None  # size of the file; None if images are arrays, or the file cannot be read
    sha256: str | None  # of the file, or of an array's pixels
    facts: Facts | None  # None if there is no header, or it cannot be read
    error: str | None  # why the image cannot be used

    def line(self) -> str:
        """Returns the image as a line of the manifest, a JSON object."""
        entries = asdict(self)
        facts = entries.pop("facts") or dict.fromkeys(Facts.__dataclass_fields__)
        error = entries.pop("error")
        return json.dumps({**entries, **facts, "error": error}, ensure_ascii=False)

    @property
    def misnamed(self) -> bool:
        """Whether the extension of the name is that of another format."""
        promised = _FORMATS.get(PurePath(self.name).suffix.lower())
        found = None if self.facts is None else self.facts.format.replace("MPO", "JPEG")
        return None not in (promised, found) and promised != found


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found, in the order of the images: training, validation and test images."""

    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    seconds: float
    counts: list[tuple[str, int, int]]  # name, training and validation images of each class
    # training and validation images without any label; None if images have one class each
    unlabelled: tuple[int, int] | None = None

    @property
    def bad(self) -> list[Row]:
        """Images that cannot be used."""
        return [row for row in self.rows if row.error is not None]

    @property
    def empty(self) -> list[str]:
        """Classes without training images."""
        return [name for name, train, _ in self.counts if not train]

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Width and height of the smallest, the median and the largest image, by area."""
        found = sorted((facts.width * facts.height, facts.width) for facts in self._facts())
        chosen = [found[at] for at in (0, len(found) // 2, -1)] if found else []
        return tuple((width, area // width) for area, width in chosen)

    def tally(self, what: str) -> list[tuple[str, int]]:
        """Counts the values of a field of `Facts`, the most frequent first."""
        return Counter(str(getattr(facts, what)) for facts in self._facts()).most_common()

    def odd(self) -> dict[str, list[Row]]:
        """Returns usable but unusual images by kind; kinds that do not occur are left out."""
        kinds: dict[str, Callable[[Row, Facts], bool]] = {
            "turned by EXIF": lambda row, facts: facts.orientation in range(2, 9),
            "animated or paged": lambda row, facts: facts.frames > 1,
            "more than 8 bits": lambda row, facts: facts.bits > 8,
            "CMYK": lambda row, facts: facts.mode in ("CMYK", "YCCK"),
            "named as another format": lambda row, facts: row.misnamed,
        }
        found = {
            kind: [row for row in self.rows if row.facts is not None and fits(row, row.facts)]
            for kind, fits in kinds.items()
        }
        return {kind: rows for kind, rows in found.items() if rows}

    @property
    def levels(self) -> tuple[float, float, int] | None:
        """Lowest and highest sample of the images with more than 8 bits, and their bits."""
        deep = [facts for facts in self._facts() if facts.lowest is not None]
        if not deep:
            return None
        low = min(facts.lowest for facts in deep if facts.lowest is not None)
        high = max(facts.highest for facts in deep if facts.highest is not None)
        return low, high, max(facts.bits for facts in deep)

    def copies(self) -> list[list[Row]]:
        """Returns groups of images with the same content."""
        alike: defaultdict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            if row.sha256 is not None and row.bytes != 0:
                alike[row.sha256].append(row)
        return [rows for rows in alike.values() if len(rows) > 1]

    def leaks(self) -> list[list[Row]]:
        """Returns groups of copies that are in more than one part."""
        return [rows for rows in self.copies() if len({row.part for row in rows}) > 1]

    def disagreements(self) -> list[list[Row]]:
        """Returns groups of copies with different labels."""
        return [rows for rows in self.copies() if len({row.label for row in rows}) > 1]

    def write_manifest(self, path: Path) -> None:
        """Writes one line per image.

        Raises:
            OSError: The file cannot be written.
        """

        def write(partial: Path) -> None:
            with partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(f"{row.line()}\n" for row in self.rows)

        write_whole(path, write)

    def _facts(self) -> Iterator[Facts]:
        return (row.facts for row in self.rows if row.facts is not None)


def check(data: Dataset, progress: Callable[[int, int], None] | None = None) -> Checked:
    """Decodes every image of the training, the validation and the test part.

    Args:
        data: As returned by `read_data`.
        progress: Called in this thread with the number of images done and the total.
    """
    started = time.perf_counter()
    parts = [
        _Part(name, images, data.classes, data.groups.get(name))
        for name, images in (("train", data.train), ("val", data.val), ("test", data.test))
        if images is not None
    ]
    total = sum(len(part.images) for part in parts)
    rows: list[Row] = []
    with ThreadPoolExecutor(processor().cores, "check") as threads:
        for part in parts:
            for start in range(0, len(part.images), _CHUNK):
                stop = min(start + _CHUNK, len(part.images))
                rows += threads.map(part.row, range(start, stop))
                if progress is not None:
                    progress(len(rows), total)
    train, val = (counts(own.labels, len(data.classes)).tolist() for own in (data.train, data.val))
    each = list(zip(data.classes, train, val, strict=True))
    found = Checked(data.classes, tuple(rows), time.perf_counter() - started, each)
    if not data.multi_label:
        return found
    none = without_label(data.train.labels), without_label(data.val.labels)
    return replace(found, unlabelled=none)


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    images: Images
    classes: tuple[str, ...]
    groups: Groups | None

    def row(self, index: int) -> Row:
        """Looks at an image."""
        name = self.images.name(index)
        size, digest, facts, fault = _looked_at(self.images, index, name)
        return Row(
            name=name,
            part=self.name,
            label=names(self.images.labels[index], self.classes),
            group=None if self.groups is None else self.groups.name(index),
            bytes=size,
            sha256=digest,
            facts=facts,
            error=fault,
        )


def _looked_at(
    images: Images, index: int, name: str
) -> tuple[int | None, str | None, Facts | None, str | None]:
    """Returns the bytes, sha256 and facts of an image, and why it cannot be used."""
    size = digest = facts = fault = None
    try:
        source, digest = images.source(index), images.digest(index).hex()
        if isinstance(source, Path):
            size = source.stat().st_size
        elif source is not None:
            size = len(source)
    except DataError as error:
        fault = str(error)
    except OSError as error:  # it was there a moment ago
        fault = f"{name}: cannot be read ({error.strerror})."
    else:
        if source is not None:
            with GATE.scope():
                facts, fault = look_at_any_image(source, name)
    return size, digest, facts, fault
