"""Text of any origin as one line that a terminal, a message or a page can show."""

from __future__ import annotations


def printable(text: object) -> str:
    """The text as one line: if it has control characters or undecodable bytes, they are escaped."""
    line = str(text)
    return line if line.isprintable() else repr(line)


def truncated(text: object, most: int = 200) -> str:
    """The text as one line, cut after `most` characters; "..." marks the cut."""
    line = printable(text)
    return line if len(line) <= most else f"{line[:most]}..."


def elided(text: object, most: int = 90) -> str:
    """The text as one line of at most `most` characters; "…" replaces the middle of longer text."""
    line = printable(text)
    if len(line) <= most:
        return line
    end = most // 2
    return f"{line[: most - 1 - end]}…{line[-end:]}"
