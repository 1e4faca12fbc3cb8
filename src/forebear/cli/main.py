"""The entry point of the command line, which has one module per verb.

The module of a verb defines SUMMARY (one line), EXAMPLE (a working command), add_arguments(parser)
and run(args), which returns the exit code. It is imported when the verb is called, and imports
torch only if it needs to. Results go to stdout, everything else to stderr. Every error prints one
line on stderr; `failures` chooses the line and the exit code.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from forebear.cli import output
from forebear.cli.failures import explained
from forebear.errors import near_misses
from forebear.version import __version__

# From each verb to its summary; the module is cli/<verb>.py.
VERBS = {
    "list": "list the published networks and weights",
    "describe": "print a network as table 1 or layer by layer, or draw it",
    "dialects": "compare each library's strides, pooling, epsilons and preprocessing",
    "diff": "compare two networks",
    "recipes": "list or print the published training recipes",
    "check": "decode every image of a data set and report problems",
    "train": "train a network on images",
    "tune": "search a few fields of a recipe in a given time",
    "evaluate": "evaluate a trained network on validation images",
    "calibrate": "fit the temperature of a network and its threshold for unknown images",
    "compare": "compare runs in a table and a plot",
    "predict": "classify images",
    "engines": "show how fast the installed engines are for a network",
    "quantize": "make an int8 graph of a network, and say what accuracy it loses",
    "serve": "answer images over HTTP",
    "features": "write the features of images at any end point to a file",
    "explain": "draw which places of images speak for a class, and their neighbours",
    "convert": "write a checkpoint in another format",
    "export": "write a network for ONNX Runtime, OpenVINO, torch.export, LiteRT or Core ML",
    "benchmark": "time a network forward and backward",
    "doctor": "report what forebear finds on this machine, and what is missing",
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all errors of the command line."""

    def error(self, message: str) -> NoReturn:
        """Raises a ValueError that `main` prints."""
        raise ValueError(f"{message}. Run {self.prog} --help for the arguments.")


def _overview() -> argparse.ArgumentParser:
    verbs = "\n".join(f"  {verb:<10} {summary}" for verb, summary in VERBS.items())
    parser = Parser(
        prog="forebear",
        description="AlexNet v2, ResNet v1 and v2, ResNeXt: exact builds of every dialect.",
        usage="forebear VERB [ARGUMENT ...]",
        epilog=f"verbs:\n{verbs}\n\nforebear VERB --help shows the arguments and an example.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"forebear {__version__}")
    return parser


def make_parser(verb: str) -> argparse.ArgumentParser:
    """The parser of a verb's arguments; the documentation's command-line page is made from it."""
    module = importlib.import_module(f"forebear.cli.{verb}")
    parser = Parser(
        prog=f"forebear {verb}",
        description=module.SUMMARY,
        epilog=f"example:\n  {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb and returns its exit code; `docs/files.md` lists the codes.

    Args:
        argv: Arguments after `forebear`; None uses `sys.argv`.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.WARNING, format="forebear: %(message)s")
    try:
        output.prepare_streams()
        if not words or words[0].startswith("-"):
            _overview().parse_args(words or ["--help"])
        if words[0] not in VERBS:
            known = f"Expected one of {', '.join(VERBS)}.{near_misses(words[0], VERBS)}"
            raise ValueError(f"verb {words[0]!r} is unknown. {known}")
        args = make_parser(words[0]).parse_args(words[1:])
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except (Exception, KeyboardInterrupt) as error:
        return explained(error, words)
