"""forebear benchmark: times a network, forward and forward with backward."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.cli import output
from forebear.cli.text_table import columns
from forebear.cli.train import shape

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
        "networks",
        nargs="*",
        metavar="NAME",
        help="names from forebear list, or a .toml or .json table file",
    )
    parser.add_argument(
        "--preset",
        choices=("slim",),
        help="slim: the loop of TF-Slim's authors, slim/resnet_v2_152 with 100 batches of 32 "
        "images of 224 pixels after 10",
    )
    parser.add_argument(
        "--engine",
        metavar="E,...",
        help="compare forebear's engines in one run: all, or some of torch, compile, onnxruntime "
        "and openvino",
    )
    parser.add_argument(
        "--against",
        metavar="P,...",
        help="compare with the same network of other libraries in one run: all, or some of "
        "torchvision, timm and keras",
    )
    parser.add_argument(
        "--forward", action="store_true", help="compare forward passes (default: if not --backward)"
    )
    parser.add_argument(
        "--backward", action="store_true", help="compare training steps: forward and backward"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw a comparison")
    parser.add_argument("--dialect", metavar="D", help="dialect (required for a table file)")
    parser.add_argument(
        "--batch", default="32", metavar="N,...", help="batch sizes (default: %(default)s)"
    )
    parser.add_argument(
        "--size",
        type=shape,
        metavar="PIXELS",
        help="input size: the side of a square or HEIGHTxWIDTH (default: as published)",
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
    if args.preset and args.networks:
        raise ValueError(
            f"--preset {args.preset} and NAME: expected one of them. The preset names its network."
        )
    if args.preset:
        args.networks, args.batch, args.size, args.steps = ["slim/resnet_v2_152"], "32", 224, 100
    if not args.networks:
        raise ValueError("no NAME: expected a network. Pass a name from forebear list.")
    batches = _batches(args.batch)
    compares = (args.engine, args.against) != (None, None) or args.backward or args.forward
    if compares or len(args.networks) > 1 or len(batches) > 1:
        return _compare(args, batches)
    from forebear.tasks.benchmark import Setup, benchmark

    setup = Setup(
        batch=batches[0],
        size=args.size,
        steps=args.steps,
        precision=args.precision,
        device=args.device,
        channels_last=args.channels_last,
    )
    terminal = sys.stderr.isatty()
    try:
        found = benchmark(
            args.networks[0], setup, dialect=args.dialect, progress=_show if terminal else None
        )
    finally:
        if terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    if args.json:
        output.result_json(_as_dict(found))
    else:
        output.result("\n".join(_text(found)))
    return 0


def _batches(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().lstrip("-").isdigit() for part in parts):
        raise ValueError(
            f"--batch {text}: expected whole numbers, such as 1,32. Pass such numbers."
        )
    found = [int(part) for part in parts]
    if min(found) < 1:
        raise ValueError(
            f"batch={min(found)}: expected a whole number of at least 1. Pass 1 or more."
        )
    return found


def _chosen(text: str | None, known: Sequence[str], flag: str, otherwise: list[str]) -> list[str]:
    if text is None:
        return otherwise
    found = list(known) if text == "all" else text.split(",")
    wrong = [one for one in found if one not in known]
    if wrong:
        raise ValueError(
            f"{flag} {wrong[0]}: expected all, or some of {', '.join(known)}, with commas between "
            "them. Pass such names."
        )
    return found


def _refuse_ignored(args: argparse.Namespace) -> None:
    """Refuses the options of a single timing, which a comparison would ignore."""
    ignored = {
        "--dialect": args.dialect is not None and args.dialect,
        "--steps": args.steps != 100 and args.steps,
        "--no-channels-last": not args.channels_last,
    }
    for flag, value in ignored.items():
        if value is not False:
            shown = flag if value is True else f"{flag} {value}"
            raise ValueError(
                f"{shown}: a comparison does not have this option. Expected a published network in "
                f"its own dialect, channels last, in rounds. Leave out {flag}, or time one network "
                "and batch size without --engine, --against, --forward and --backward."
            )


def _compare(args: argparse.Namespace, batches: list[int]) -> int:
    from forebear.cli.speed_table import as_dict, draw, lines
    from forebear.tasks.compare_speed import compare
    from forebear.tasks.speed_contenders import ENGINES, PEERS, full_name

    names = [full_name(name, output.note) for name in args.networks]
    _refuse_ignored(args)
    engines: Any = _chosen(args.engine, ENGINES, "--engine", ["torch"])
    peers = _chosen(args.against, PEERS, "--against", [])
    kinds = [False] if args.forward or not args.backward else []
    found = [
        compare(
            name, batch=batch, size=args.size, backward=backward, engines=engines, peers=peers,
            precision=args.precision, device=args.device, say=output.note,
        )
        for name in names
        for batch in batches
        for backward in (*kinds, *([True] if args.backward else []))
    ]  # fmt: skip
    if args.json:
        output.result_json([as_dict(one) for one in found])
    else:
        output.result("\n".join(line for one in found for line in lines(one)))
    if args.plot is not None:
        draw(found, args.plot)
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
    images = f"{found.batch} of {found.size}x{found.width}"
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
