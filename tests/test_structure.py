"""The limits of size in src: short files, and classes with few methods."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import forebear

SOURCE = Path(forebear.__file__).parent
FILE_LINES = 400
CLASS_LINES = 200
METHODS = 12  # of a class: public, private and properties
# What is still above a limit: a file, or a class in a file. A name that no longer needs to be here
# fails the test.
EXCEPTIONS: set[str] = set()


def too_large(name: str, source: str) -> dict[str, str]:
    """Returns {file, or file:class: what is above the limit}."""
    found = {}
    lines = len(source.splitlines())
    if lines > FILE_LINES:
        found[name] = f"{lines} lines"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - min(node.lineno, *_decorator_lines(node)) + 1
            methods = sum(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) for n in node.body)
            if lines > CLASS_LINES or methods > METHODS:
                found[f"{name}:{node.name}"] = f"{lines} lines, {methods} methods"
    return found


def _decorator_lines(node: ast.ClassDef) -> list[int]:
    return [node.lineno, *(decorator.lineno for decorator in node.decorator_list)]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("x = 1\n" * 400, {}),
        ("x = 1\n" * 401, {"a.py": "401 lines"}),
        ("class A:\n" + "    x = 1\n" * 199, {}),
        ("class A:\n" + "    x = 1\n" * 200, {"a.py:A": "201 lines, 0 methods"}),
        ("@b\nclass A:\n" + "    x = 1\n" * 199, {"a.py:A": "201 lines, 0 methods"}),
        ("class A:\n" + "    def f(self): ...\n" * 12, {}),
        ("class A:\n" + "    def f(self): ...\n" * 13, {"a.py:A": "14 lines, 13 methods"}),
        (
            "class A:\n    class B:\n" + "        async def f(self): ...\n" * 13,
            {"a.py:B": "14 lines, 13 methods"},
        ),
    ],
)
def test_each_limit_is_seen(source: str, found: dict[str, str]) -> None:
    assert too_large("a.py", source) == found


def test_files_and_classes_are_within_the_limits() -> None:
    found: dict[str, str] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        found |= too_large(path.relative_to(SOURCE).as_posix(), path.read_text(encoding="utf-8"))
    offenders = [f"{name}: {size}" for name, size in found.items() if name not in EXCEPTIONS]
    assert not offenders, (
        f"{'; '.join(offenders)}. Expected at most {FILE_LINES} lines in a file, and {CLASS_LINES} "
        f"lines and {METHODS} methods in a class. Move an object out of it."
    )
    needless = EXCEPTIONS - set(found)
    assert not needless, f"{sorted(needless)}: within the limits. Delete them from EXCEPTIONS."
