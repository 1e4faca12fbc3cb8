"""Text of any origin as one line that a terminal, a message or a page can show."""

from __future__ import annotations

import json


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


def escaped(text: str) -> str:
    """The text with its line breaks, in which other control characters are escaped."""
    if text.isprintable():
        return text
    return "".join(one if one == "\n" or one.isprintable() else _escape(one) for one in text)


def one_line(text: object) -> str:
    """The text as one line, in which control characters and line breaks are escaped."""
    line = str(text)
    if line.isprintable():
        return line
    return "".join(one if one.isprintable() else _escape(one) for one in line)


def json_text(value: object) -> str:
    """The value as one line of JSON, in which control characters are escaped.

    Raises:
        ValueError: A number is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)
    return text if text.isprintable() else "".join(map(_json_escape, text))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _json_escape(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]
