"""forebear check: decodes every image of a data set and reports problems."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.cli import faults, output
from forebear.cli.flags import add_flags
from forebear.cli.text_table import columns
from forebear.data.sources.kinds import listed_specs
from forebear.data.sources.read_options import ReadOptions
from forebear.settings import settings
from forebear.text import one_line, printable

if TYPE_CHECKING:
    from forebear.data.dataset import Dataset
    from forebear.tasks.check import Checked, Row

SUMMARY = "Decodes every image of a data set, and reports unusable and unusual images."
EXAMPLE = "forebear check folder:photographs --manifest photographs.jsonl"

_CLASSES = 40  # lines in the class table; with more classes, only the smallest and largest ones
_NAMES = 5  # images listed for each problem

Line = tuple[str, str]  # a line and its style, as rich calls it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("data", metavar="DATA", help=listed_specs())
    add_flags(parser, settings(ReadOptions).values())
    parser.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="write one JSON object per image: name, part, label, group, bytes, sha256, size, "
        "mode, format, error, ...",
    )
    faults.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the report, and returns 1 if an image cannot be used or a group is in two parts."""
    from rich.console import Console
    from rich.text import Text

    from forebear.data.sources.group_by import shared_groups
    from forebear.data.sources.registry import read_data
    from forebear.tasks.check import check

    judge = faults.opened(args)
    options = ReadOptions(**{name: getattr(args, name) for name in settings(ReadOptions)})
    data = read_data(args.data, options)
    judge = None if judge is None else judge.of(data)
    with _progress() as progress:
        found = check(data, progress)
    if args.manifest is not None:
        try:
            found.write_manifest(args.manifest)
        except OSError as error:
            raise ValueError(
                f"--manifest {args.manifest}: cannot be written ({error.strerror}). Expected a "
                "file in an existing, writable folder. Choose another path."
            ) from error
    failed = 1 if found.bad or shared_groups(data) else 0
    suggested = None if judge is None else faults.written(judge, args.out, data, found)
    if args.json:
        output.result_json({**faults.as_json(args, found, suggested), **_groups_as_json(data)})
        return failed
    console = Console(highlight=False, soft_wrap=True)
    lines = [] if suggested is None else faults.lines(suggested, args.out)
    for line, style in chain(_report(found, data), lines):
        console.print(Text(one_line(line), style))
    return failed


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """Shows a progress bar if stderr is a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    left = TimeRemainingColumn(compact=True)
    shown = (TextColumn("decoding"), BarColumn(24), MofNCompleteColumn(), left)
    with Progress(*shown, console=console, transient=True) as live:
        task = live.add_task("decoding", total=None)
        yield lambda done, total: live.update(task, completed=done, total=total)


def _report(found: Checked, data: Dataset) -> Iterator[Line]:
    from forebear.data.sources.summary import summary

    yield summary(data), ""
    yield from ((note, "yellow") for note in data.notes)
    if len(data.classes) == 1:
        yield "only one class: there is nothing to tell apart, and train refuses it", "yellow"
    yield "", ""
    yield from _classes(found)
    yield "", ""
    yield from ((line, "") for line in columns(list(_facts(found, data)), "<<"))
    for kind, rows in found.odd().items():
        yield from _listed(kind, rows, "yellow")
    for kind, groups in (
        ("copies across parts, which inflate accuracy", found.leaks()),
        ("copies under different classes", found.disagreements()),
    ):
        yield from _listed(kind, [row for rows in groups for row in rows], "red", len(groups))
    yield from _shared(data)
    bad = found.bad
    yield from _listed("cannot be used", bad, "red")
    yield "", ""
    count = len(found.rows)
    speed = f"{count / max(found.seconds, 1e-9):,.0f} images/s"
    if bad:
        yield f"{len(bad):,} of {count:,} images cannot be used ({speed})", "bold red"
    else:
        yield f"all {count:,} images can be used ({speed})", "bold green"


def _shared(data: Dataset) -> Iterator[Line]:
    """Yields the groups that are in several parts, which train refuses."""
    from forebear.data.sources.group_by import shared_groups

    shared = shared_groups(data)
    if shared:
        yield "", ""
        yield f"{len(shared):,} groups across given parts, which train --group-by refuses", "red"
        yield from ((f"  {group}", "") for group in shared[:_NAMES])
    if len(shared) > _NAMES:
        yield f"  ... and {len(shared) - _NAMES:,} more", "dim"


def _groups_as_json(data: Dataset) -> dict[str, Any]:
    """Returns the groups of --group-by; nothing without it."""
    from forebear.data.sources.group_by import group_sizes, shared_groups

    if not data.groups:
        return {}
    sizes = sorted(group_sizes(data).values())
    shared = [
        {"group": one.name, **{part: count for part, (count, _) in one.parts.items()}}
        for one in shared_groups(data)
    ]
    return {
        "groups": {
            "by": next(iter(data.groups.values())).by,
            "count": len(sizes),
            "parts": {part: groups.count for part, groups in data.groups.items()},
            "images_per_group": {
                "smallest": sizes[0], "median": sizes[len(sizes) // 2], "largest": sizes[-1],
            } if sizes else None,
            "across_parts": shared,
        }
    }  # fmt: skip


def _classes(found: Checked) -> Iterator[Line]:
    from forebear.data.labels import NONE

    counts = found.counts
    if len(counts) > _CLASSES:
        rising = sorted(counts, key=lambda row: row[1])
        counts = [*rising[: _CLASSES // 2], *rising[-_CLASSES // 2 :]]
    table = [(printable(name), f"{train:,}", f"{val:,}") for name, train, val in counts]
    kind = "class" if found.unlabelled is None else "label"
    if found.unlabelled is not None:
        train, val = found.unlabelled
        table.append((f"({NONE})", f"{train:,}", f"{val:,}"))
    head, *lines = columns([(kind, "train", "val"), *table], "<>>")
    none = [lines.pop()] if found.unlabelled is not None else []
    yield head, "bold"
    for at, (line, (_, train, _val)) in enumerate(zip(lines, counts, strict=True)):
        if len(found.classes) > _CLASSES and at == _CLASSES // 2:
            yield f"... {len(found.classes) - _CLASSES:,} more {_plural(kind)} ...", "dim"
        yield line, "" if train else "red"
    yield from ((line, "dim") for line in none)


def _plural(kind: str) -> str:
    return "labels" if kind == "label" else "classes"


def _facts(found: Checked, data: Dataset) -> Iterator[tuple[str, str]]:
    from forebear.data.sources.summary import group_counts

    parts = [sum(row.part == part for row in found.rows) for part in ("train", "val", "test")]
    tests = f", {parts[2]:,} test" if data.test is not None else ""
    yield "images", f"{parts[0]:,} training, {parts[1]:,} validation{tests}"
    yield "split", data.split
    if data.groups:
        yield "groups", group_counts(data)
    if found.sizes:
        least, median, greatest = (f"{width} x {height}" for width, height in found.sizes)
        yield "pixels", f"smallest {least}, median {median}, largest {greatest}"
        for what in ("format", "mode"):
            yield f"{what}s", ", ".join(f"{name} {n:,}" for name, n in found.tally(what))
    if found.levels is not None:
        low, high, bits = found.levels
        most = f" of {2**bits - 1:,}" if bits <= 16 else ""
        advice = "" if high > 0.5 * 2**bits else "; train --sample-range auto scales to them"
        yield "samples", f"{bits}-bit images use {low:,g} to {high:,g}{most}{advice}"
    bytes_ = sum(row.bytes or 0 for row in found.rows)
    if bytes_:
        yield "files", f"{bytes_ / 1e6:,.1f} MB"
    copies = found.copies()
    if copies:
        yield "copies", f"{sum(map(len, copies)):,} images share {len(copies):,} contents"
    if found.empty:
        yield "empty", f"{len(found.empty):,} classes have no training images"


def _listed(kind: str, rows: Sequence[Row], style: str, count: int | None = None) -> Iterator[Line]:
    """Yields a heading with the number of images, then the first few names or errors."""
    if not rows:
        return
    yield "", ""
    yield f"{len(rows) if count is None else count:,} {kind}", style
    for row in rows[:_NAMES]:
        yield f"  {row.error or f'{row.name} ({row.part}, {printable(row.label)})'}", ""
    if len(rows) > _NAMES:
        yield f"  ... and {len(rows) - _NAMES:,} more; --manifest FILE lists them", "dim"
