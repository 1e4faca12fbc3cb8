"""The arguments that choose an engine."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forebear.engines.engine import EngineRequest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --engine, --precision, --device and --threads."""
    parser.add_argument(
        "--engine",
        default="auto",
        choices=("auto", "torch", "compile", "onnxruntime", "openvino"),
        help="what computes; auto measures those that are installed, once for each network and "
        "batch size, and takes the fastest whose results are equal (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "fp32", "bf16", "int8"),
        help="auto is fp32, whose classes are those of the network; bf16 needs a processor that "
        "has it; int8 needs forebear quantize first (default: %(default)s)",
    )
    parser.add_argument(
        "--device",
        default="cpu",
        metavar="D",
        help="cpu, cuda, cuda:N, or auto: a GPU if there is one; a GPU takes --engine torch or "
        "compile (default: %(default)s)",
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="compute threads (default: all cores)"
    )


def request(args: argparse.Namespace, batch: int) -> EngineRequest:
    """Returns what the user asks for.

    Args:
        args: Parsed arguments.
        batch: Images at a time.

    Raises:
        ValueError: This machine has no such device.
    """
    from forebear.engines.engine import EngineRequest

    return EngineRequest(
        engine=args.engine,
        precision=args.precision,
        batch=batch,
        threads=args.threads,
        device="cpu" if args.device == "cpu" else _found(args.device),
    )


def _found(device: str) -> str:
    """Returns the name of a device that this machine has.

    Raises:
        ValueError: It has none of this name.
    """
    from forebear.tasks.machine.device import find_device

    return str(find_device(device))
