"""The command line: one module a verb, and what they share.

A verb's module has SUMMARY (one line), EXAMPLE (a command that works), add_arguments(parser) and
run(args) -> exit code. It is imported when the verb is called, and torch no sooner than needed.
Results go to stdout, all else to stderr. A user's mistake is one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from forebear.errors import ForebearError, near_misses
from forebear.version import __version__

# verb to what it does; the module is cli/<verb>.py
VERBS = {
    "list": "names of the published networks",
    "describe": "a network as table 1, layer by layer, or as a drawing",
    "dialects": "where each library puts stride, pool, epsilon and preprocessing, side by side",
    "diff": "how two networks differ, in words and numbers",
    "recipes": "published training recipes, and what is in them",
    "check": "decode every picture of a data set and report what is wrong",
    "train": "train a network on pictures",
    "evaluate": "measure a trained network on held-out pictures",
    "compare": "set runs beside one another in a table and a plot",
    "predict": "name what is in pictures",
    "convert": "write a checkpoint in another format",
    "benchmark": "time a network forward and backward",
    "doctor": "what forebear finds on this machine, and what it does without",
}


def _overview() -> argparse.ArgumentParser:
    verbs = "\n".join(f"  {verb:<10} {summary}" for verb, summary in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="forebear",
        description="AlexNet v2, ResNet v1 and v2, ResNeXt: every published dialect, exact.",
        usage="forebear VERB [ARGUMENT ...]",
        epilog=f"verbs:\n{verbs}\n\nforebear VERB --help shows a verb's arguments and an example.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"forebear {__version__}")
    return parser


def make_parser(verb: str) -> argparse.ArgumentParser:
    """The parser of a verb's arguments; the documentation's command-line page is made from it."""
    module = importlib.import_module(f"forebear.cli.{verb}")
    parser = argparse.ArgumentParser(
        prog=f"forebear {verb}",
        description=module.SUMMARY,
        epilog=f"example:\n  {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb and returns its exit code: 0, or 2 for a user's mistake.

    Args:
        argv: the words after `forebear`; None takes the process's own.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.WARNING, format="forebear: %(message)s")
    if not words or words[0].startswith("-"):
        _overview().parse_args(words or ["--help"])
    if words[0] not in VERBS:
        known = f"Expected one of {', '.join(VERBS)}.{near_misses(words[0], VERBS)}"
        return _refuse(f"verb {words[0]!r} is unknown. {known}")
    args = make_parser(words[0]).parse_args(words[1:])
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except (ForebearError, ValueError, TypeError) as error:
        if os.environ.get("FOREBEAR_TRACEBACK"):
            raise
        return _refuse(str(error), code=error.code if isinstance(error, ForebearError) else 2)
    except KeyboardInterrupt:
        return _refuse("interrupted.", code=130)
    except BrokenPipeError:  # the reader has seen enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, most often; what is not expected is told as it is
        if os.environ.get("FOREBEAR_TRACEBACK"):
            raise
        return _refuse(f"{error}. Free some room, or pass a folder that can be written to.")


def _refuse(message: str, *, code: int = 2) -> int:
    print(f"forebear: {message}", file=sys.stderr)
    return code
