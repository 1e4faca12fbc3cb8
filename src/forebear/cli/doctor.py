"""forebear doctor: reports what forebear finds on this machine, and what is missing."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from forebear.cli import output
from forebear.cli.text_table import columns

if TYPE_CHECKING:
    from forebear.tasks.doctor import Report

SUMMARY = "Shows versions, CPU, kernels, GPUs, extras and caches, and what is missing."
EXAMPLE = "forebear doctor --json"

Row = tuple[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the report."""
    from forebear.tasks.doctor import report

    found = report()
    if args.json:
        facts = asdict(found) | {"versions": dict(found.versions)}
        output.result_json(facts)
    else:
        output.result("\n".join(columns(list(_rows(found)), "<<")))
    return 0


def _rows(found: Report) -> Iterator[Row]:
    yield "versions", ", ".join(f"{name} {version}" for name, version in found.versions)
    yield "system", found.system
    yield from _processor(found)
    yield "kernels", f"built by {found.built_by}" if found.built_by else "not built"
    for kernel in found.kernels:
        yield f"  {'' if kernel.used else 'not '}used", kernel.name + _because(kernel.why_not)
    shapes = sum(found.convolutions.values())
    ways = ", ".join(f"{count} by {name}" for name, count in found.convolutions.items())
    yield "fp32 convolutions", f"{shapes} shapes measured{': ' if ways else ''}{ways}"
    for gpu in found.gpus:
        bf16 = "bf16" if gpu.bf16 else "no bf16"
        yield "GPU", f"{gpu.name}, {_size(gpu.memory)}, {bf16}"
    if not found.gpus:
        yield "GPU", "none that torch can use"
    for extra in found.extras:
        there = ", ".join(f"{name} {version or 'missing'}" for name, version in extra.packages)
        remedy = "" if extra.installed else f"; run pip install 'forebear[{extra.name}]'"
        yield f"extra {extra.name}", there + remedy
    yield "FOREBEAR_HOME", f"{found.home}, {_size(sum(cache.size for cache in found.caches))}"
    for cache in found.caches:
        yield f"  {cache.path.name}", _size(cache.size)


def _processor(found: Report) -> Iterator[Row]:
    this = found.processor
    memory = f", {_size(this.memory)} of memory" if this.memory else ""
    yield "processor", f"{this.name}, {this.architecture}, {this.cores} cores{memory}"
    yield (
        "level",
        this.kind
        + (
            ""
            if this.level == found.own_level
            else f" (set by FOREBEAR_CPU; the CPU supports {found.own_level})"
        ),
    )
    yield "precision", f"--precision auto means {found.precision}"
    yield "torch", f"{found.torch_threads} threads, {found.torch_capability}"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _size(count: int) -> str:
    """Formats a number of bytes in the largest unit that gives at least 1."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):.1f} {unit}"
    return f"{count} B"
