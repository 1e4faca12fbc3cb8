"""What pictures and pages of a run call things: one line that can be printed, and not too long."""

from __future__ import annotations

from forebear.data.decode import printable
from forebear.weights.imagenet import synset_name


def shown(text: str, most: int = 90) -> str:
    """The text as one line of `most` characters at most; of a longer one its middle is left out."""
    line = printable(text)
    if len(line) <= most:
        return line
    end = most // 2
    return f"{line[: most - 1 - end]}…{line[-end:]}"


def class_title(name: str, most: int = 90) -> str:
    """What a class is called: ImageNet's word in place of a synset, the name itself elsewhere."""
    return shown(synset_name(name) or name, most)
