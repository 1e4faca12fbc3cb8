"""Jinja templates of the package, for the pages that forebear writes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


@cache
def template(package: str, name: str, line: Callable[[Any, int], str]) -> Template:
    """Returns a template, which escapes its variables and refuses undefined ones.

    Args:
        package: The package that has the file, such as "forebear.tasks.runs".
        name: The file.
        line: The filter `line`, which formats a value as one line of some characters at most.
    """
    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["line"] = line
    return environment.get_template(name)
