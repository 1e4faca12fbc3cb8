"""forebear dialects: compares the choices that libraries made where the papers left them open."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence

from forebear.cli import output
from forebear.cli.text_table import wrapped
from forebear.network.describe.dialect_table import Topic, as_dicts, find_dialects, side_by_side

SUMMARY = "Compares dialects in one table per topic, with one row per dialect."
EXAMPLE = 'forebear dialects "slim-*" torchvision/resnet50'

_PAGE = """\
# Dialects

A paper leaves choices open, and each library made its own. A dialect is the record of one library's
choices. These tables show every dialect of forebear, read off its records and off the networks that
are built in it.

- `forebear dialects slim/resnet_v1_50 keras/ResNet50` prints the rows of two networks.
- `forebear dialects --json` has the records' own values.
- `forebear diff A B` says how two networks differ and what that costs.
- `forebear describe NAME --dialect D` builds any table in any dialect.

How to read them:

- `-` stands where a question has no meaning, such as the epsilon of a network without norms.
- `7x7/2` is a kernel of 7x7 pixels with a stride of 2.
- A stride in the last unit makes the features coarser for the block that follows.
- `SAME` is TensorFlow's padding, which depends on the size of the map.
- A running mean that keeps 0.9 has momentum 0.1 in PyTorch. The running variance takes in the
  unbiased or the biased variance of a batch.
- The input of a network is (scale * pixel - mean) / std, for pixels from 0 to 255.
- `tf-bilinear` is TensorFlow 1's `resize_bilinear`, without antialiasing.

The command `forebear dialects --markdown > docs/dialects.md` makes this page.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "patterns",
        nargs="*",
        metavar="PATTERN",
        help='dialects or networks, such as "slim-*" or torchvision/resnet50 (default: all)',
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="print one JSON array with the values of the records"
    )
    form.add_argument("--markdown", action="store_true", help="print the page docs/dialects.md")


def run(args: argparse.Namespace) -> int:
    """Prints the tables.

    Raises:
        ValueError: A pattern matches no dialect.
    """
    names = find_dialects(args.patterns)
    if args.json:
        output.result_json(as_dicts(names))
    elif args.markdown:
        output.result("\n".join(_markdown(side_by_side(names))))
    else:
        width = shutil.get_terminal_size((120, 24)).columns
        output.result("\n\n".join(_text(topic, width) for topic in side_by_side(names)))
    return 0


def _text(topic: Topic, width: int) -> str:
    return "\n".join([topic.title, *wrapped([topic.header, *topic.rows], width)])


def _markdown(topics: Sequence[Topic]) -> Iterator[str]:
    yield _PAGE.rstrip()
    for topic in topics:
        yield f"\n## {topic.title}\n"
        yield _row(topic.header)
        yield _row(["---"] * len(topic.header))
        yield from (_row([f"`{row[0]}`", *row[1:]]) for row in topic.rows)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
