"""Exports a network: writes it, runs it in the runtime that it is for, and compares."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from forebear.engines.compare import synthetic_images
from forebear.engines.graph_card import GraphCard
from forebear.errors import ForebearError, RunError, WeightsError, near_misses
from forebear.network.finite import first_not_finite
from forebear.network.network import Network
from forebear.tasks.export.formats import FORMATS, Format, Options
from forebear.tasks.export.verify import Comparison, compare
from forebear.text import one_line, printable, truncated

IMAGES = 8  # to compare on


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What was written."""

    path: Path
    bytes: int  # of the file, or of all files of the folder
    comparison: Comparison | None  # None: it was not compared


def export(
    network: Network,
    to: str,
    path: Path,
    options: Options | None = None,
    *,
    images: Sequence[object] = (),
    replace: bool = False,
    unchecked: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Export:
    """Writes a network for another runtime. Nothing is left behind if it cannot be written.

    Args:
        network: In evaluation mode, with its classes and preprocessing.
        to: onnx, openvino, torch-export, litert or coreml.
        path: The file to write. Its ending is that of the format.
        options: What the graph takes and how it is stored.
        images: To compare on; images of the kind of photographs are made if there are none.
        replace: Whether an existing file may be overwritten.
        unchecked: Whether the file is kept without running it.
        say: Takes lines for the user.

    Raises:
        ValueError: The format, precision or ending is not possible, or a library is missing.
        WeightsError: The format cannot hold the network, or the file gives other results.
        RunError: The file exists.
    """
    options = options or Options()
    kind = _format(to, path, options)
    missing = kind.missing(unchecked=unchecked)
    if missing:
        raise ValueError(missing)
    if path.exists() and not replace:
        raise RunError(
            f"{printable(path)}: the file exists. Expected a new file. Pass another name, or "
            "--replace."
        )
    wrong = first_not_finite(network)
    if wrong is not None:
        raise WeightsError(
            f"{network.table.name}: its array {wrong} has values that are not finite. Expected "
            "finite weights. Pass other weights."
        )
    if path.parent != Path() and not path.parent.is_dir():
        raise RunError(
            f"{printable(path.parent)}: the folder does not exist. Expected a folder to write to. "
            "Make it first."
        )
    with tempfile.TemporaryDirectory(prefix=".forebear-", dir=path.parent) as place:
        held = Path(place) / path.name
        card = _write(kind, network, held, options)
        comparison = None
        if not unchecked:
            if not images:
                images = synthetic_images(
                    IMAGES, 2 * max(card.preprocessing.shape), 0, card.preprocessing.channels
                )
                say(
                    f"compared on {IMAGES} synthetic images; pass --images FOLDER for photographs "
                    "of your own"
                )
            comparison = _compared(kind, network, held, card, images, options.precision)
        size = sum(one.stat().st_size for one in _files(held, kind))
        _move(held, path, kind)
    return Export(path=path, bytes=size, comparison=comparison)


def _format(to: str, path: Path, options: Options) -> Format:
    if to not in FORMATS:
        known = ", ".join(FORMATS)
        raise ValueError(f"to={truncated(to)}: expected one of {known}.{near_misses(to, FORMATS)}")
    kind = FORMATS[to]
    if path.suffix != kind.ending:
        raise ValueError(
            f"out={printable(path)}: the ending is {path.suffix or 'missing'}. Expected "
            f"{kind.ending} for {to}. Pass {printable(path.with_suffix(kind.ending))}"
        )
    if options.precision not in kind.precisions:
        raise ValueError(
            f"precision={truncated(options.precision)}: {to} is written in "
            f"{' or '.join(kind.precisions)}. Pass one of these."
        )
    if options.precision == "int8" and (options.any_size or not options.pixels):
        raise ValueError(
            "precision=int8: the graph of forebear quantize takes uint8 pixels of one size. "
            "Expected --with-preprocessing, and no --any-size. Change these flags."
        )
    if options.any_size and not kind.any_size:
        raise ValueError(
            f"any_size: {to} files are written for one input size. Expected no --any-size. Omit it."
        )
    return kind


def _write(kind: Format, network: Network, path: Path, options: Options) -> GraphCard:
    try:
        return kind.write(network, path, options)
    except (ForebearError, OSError, MemoryError):
        raise
    except Exception as error:  # the libraries have no common exception
        raise WeightsError(
            f"{network.table.name}: {kind.name} cannot hold it "
            f"({truncated(one_line(error), 300)}). Expected operations that this format has. "
            "Choose another format."
        ) from error


def _compared(
    kind: Format,
    network: Network,
    path: Path,
    card: GraphCard,
    images: Sequence[object],
    precision: str,
) -> Comparison:
    try:
        found = compare(network, kind.run(path, card), card, images, precision)
    except (ForebearError, OSError, MemoryError):
        raise
    except Exception as error:
        raise WeightsError(
            f"{network.table.name}: the {kind.name} file does not run "
            f"({truncated(one_line(error), 300)}). Expected the results of the network. It was not "
            "kept. Choose another format."
        ) from error
    if not found.equal:
        raise WeightsError(
            f"{network.table.name}: the {kind.name} file gives other results ({found.line()}). "
            f"Expected at most {found.tolerance:.0e} and the same classes. It was not kept. Choose "
            "another format or precision."
        )
    return found


def _files(path: Path, kind: Format) -> list[Path]:
    """Returns all files that were written: one, several, or those of a folder."""
    tops = [path, *(path.with_suffix(ending) for ending in kind.companions)]
    inner = [one for top in tops for one in (top.rglob("*") if top.is_dir() else [top])]
    return [one for one in inner if one.is_file()]


def _move(held: Path, path: Path, kind: Format) -> None:
    for one in _files(held, kind):
        with one.open("rb") as file:
            os.fsync(file.fileno())
    for ending in kind.companions:
        held.with_suffix(ending).replace(path.with_suffix(ending))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    held.replace(path)
