"""forebear benchmark: times a network, forward and forward with backward."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from forebear.cli import output
from forebear.cli.text_table import columns

if TYPE_CHECKING:
    from forebear.tasks.benchmark import Benchmark, Timing

SUMMARY = (
    "Times a network on random images: mean, standard deviation, quantiles, images/s, GFLOP/s and "
    "peak memory."
)
EXAMPLE = "forebear benchmark slim/resnet_v1_50 --batch 8 --steps 20"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "network", metavar="NAME", help="a name from forebear list, or a .toml or .json table file"
    )
    parser.add_argument("--dialect", metavar="D", help="dialect (required for a table file)")
    parser.add_argument(
        "--batch", type=int, default=32, metavar="N", help="batch size (default: %(default)s)"
    )
    parser.add_argument(
        "--size", type=int, metavar="PIXELS", help="input size (default: as published)"
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=100,
        metavar="N",
        help="number of timed steps (default: %(default)s)",
    )
    parser.add_argument(
        "--precision", default="fp32", metavar="P", help="fp32, bf16 or auto (default: %(default)s)"
    )
    parser.add_argument(
        "--device", default="auto", metavar="D", help="auto, cpu or cuda (default: %(default)s)"
    )
    parser.add_argument(
        "--channels-last",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="use the memory layout [N, H, W, C] (default: yes)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Times the network, and prints the result.

    Raises:
        ValueError: An argument is invalid.
        ForebearError: The network does not fit in memory.
    """
    from forebear.tasks.benchmark import Setup, benchmark

    setup = Setup(
        batch=args.batch,
        size=args.size,
        steps=args.steps,
        precision=args.precision,
        device=args.device,
        channels_last=args.channels_last,
    )
    terminal = sys.stderr.isatty()
    try:
        found = benchmark(
            args.network, setup, dialect=args.dialect, progress=_show if terminal else None
        )
    finally:
        if terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    if args.json:
        output.result_json(_as_dict(found))
    else:
        output.result("\n".join(_text(found)))
    return 0


def _show(what: str, step: int, steps: int) -> None:
    print(f"\r\033[K{what}: step {step} of {steps}", end="", file=sys.stderr, flush=True)


_CELLS: dict[str, Callable[[Timing], str]] = {
    "median": lambda timing: f"{timing.quantile(0.5):.4f} s",
    "p10": lambda timing: f"{timing.quantile(0.1):.4f} s",
    "p90": lambda timing: f"{timing.quantile(0.9):.4f} s",
    "images/s": lambda timing: f"{timing.images_per_second:,.1f}",
    "GFLOP/s": lambda timing: f"{timing.gflops:,.1f}",
    "peak memory": lambda timing: _bytes(timing.peak_bytes),
}


def _text(found: Benchmark) -> Iterator[str]:
    for timing in found.timings:
        yield timing.line()
    yield ""
    rows = [("", *(timing.what for timing in found.timings))]
    for name, expand in _CELLS.items():
        rows.append((name, *(expand(timing) for timing in found.timings)))
    yield from columns(rows, "<>>")
    yield ""
    yield from columns(list(_setting(found)), "<<")


def _setting(found: Benchmark) -> Iterator[tuple[str, str]]:
    cost = f"{found.multiply_adds / 1e9:.3f} G multiply-adds per image"
    yield "network", f"{found.network}, dialect {found.dialect}, {cost}"
    layout = "channels last" if found.channels_last else "channels first"
    precision = f"{found.precision}, TF32 in convolutions" if found.tf32 else found.precision
    images = f"{found.batch} of {found.size}x{found.size}"
    yield "images", f"{images}, {layout}, {precision}, {found.warm_up} warm-up steps"
    yield "device", f"{found.device}: {found.device_name}, {found.threads} threads"
    yield "versions", ", ".join(f"{name} {version}" for name, version in found.versions)


def _bytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 2**30:.2f} GiB"


def _as_dict(found: Benchmark) -> dict[str, Any]:
    timings = [_timing(timing) for timing in found.timings]
    return asdict(found) | {"versions": dict(found.versions), "timings": timings}


def _timing(timing: Timing) -> dict[str, Any]:
    return asdict(timing) | {
        "finished": timing.finished.isoformat(),
        "mean": timing.mean,
        "deviation": timing.deviation,
        "median": timing.quantile(0.5),
        "p10": timing.quantile(0.1),
        "p90": timing.quantile(0.9),
    }
