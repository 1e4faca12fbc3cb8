"""forebear serve: a network as an HTTP service."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING

from forebear.cli import engine_flags, load_model, output

if TYPE_CHECKING:
    from forebear.network.network import Network

SUMMARY = (
    "Answers images over HTTP: POST /predict, the Open Inference Protocol v2 under /v2, and "
    "Prometheus' metrics under /metrics."
)
EXAMPLE = "forebear serve runs/first --port 8000"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "run_folder",
        nargs="?",
        type=Path,
        metavar="RUN",
        help="a run folder, a weights file or an exported .onnx or .xml file",
    )
    load_model.add_arguments(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; there is no authentication (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--name", help="of the model under /v2/models (default: that of the network)"
    )
    parser.add_argument(
        "--batch", type=int, default=16, metavar="N", help="most images at a time (default: 16)"
    )
    parser.add_argument(
        "--delay-ms",
        type=float,
        default=5.0,
        metavar="MS",
        help="milliseconds that an image waits for others (default: 5)",
    )
    parser.add_argument(
        "--queue",
        type=int,
        default=256,
        metavar="N",
        help="most images that wait; further requests get status 503 (default: 256)",
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=0.0,
        metavar="N",
        help="most requests per second of one client address; others get status 429 (default: no "
        "limit)",
    )
    engine_flags.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serves until a signal."""
    _check(args)
    from forebear.engines.open import open_classifier
    from forebear.tasks.serve.server import serve
    from forebear.tasks.serve.service import Settings

    def load() -> Network:
        return load_model.load_model(args.run_folder, args)

    if (args.run_folder is None) == (args.weights is None):
        load()  # raises the error that says what to pass
    source = args.run_folder or Path(args.weights)
    classifier = open_classifier(
        source,
        engine_flags.request(args, args.batch),
        network=args.network,
        which=args.which,
        load=load,
        say=output.note,
    )
    settings = Settings(
        name=args.name or re.sub(r"[^A-Za-z0-9_.-]", "_", classifier.network),
        batch=args.batch,
        delay=args.delay_ms / 1000,
        queue=args.queue,
        rate=args.rate,
    )
    if not _is_loopback(args.host):
        output.note(
            f"{args.host} can be reached from other machines, and there is no authentication"
        )
    serve(classifier, settings, host=args.host, port=args.port, say=output.note)
    return 0


def _check(args: argparse.Namespace) -> None:
    for name, least, most in (
        ("port", 0, 65_535), ("batch", 1, 4096), ("delay_ms", 0, 60_000), ("queue", 1, 1_000_000),
        ("rate", 0, 1e9),
    ):  # fmt: skip
        value = getattr(args, name)
        if not least <= value <= most:
            raise ValueError(
                f"--{name.replace('_', '-')} {value:g}: expected {least:g} to {most:g}. Pass such "
                "a number."
            )
    if args.name is not None and not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", args.name):
        raise ValueError(
            f"--name {args.name!r}: expected 1 to 100 letters, digits, dots, hyphens or "
            "underscores. Pass such a name."
        )
    missing = [name for name in ("starlette", "uvicorn", "python_multipart")
               if importlib.util.find_spec(name) is None]  # fmt: skip
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} not installed. Expected the libraries that serve. Run pip "
            "install 'forebear[serve]'."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
