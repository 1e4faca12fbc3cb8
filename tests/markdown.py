"""Code blocks of Markdown pages, in order, for the tests that execute them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, body) of each block; directives, as in {include}, are not among them."""
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Targets of the links and images outside code blocks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return _LINK.findall(text)
