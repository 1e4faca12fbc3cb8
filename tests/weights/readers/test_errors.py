"""What a reader refuses with: one line of three parts, whatever a library raised."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebear.errors import WeightsError
from forebear.weights.readers.errors import (
    MAX_NAME,
    MAX_NAMES,
    check_names,
    largest_content,
    reading,
    refused,
)

PATH = Path("a.pth")


def test_a_refusal_has_three_parts_in_one_line() -> None:
    assert str(refused(PATH, "it is empty", "weights")) == (
        "a.pth: it is empty. Expected weights. Use a fresh copy of the file."
    )
    said = str(refused(Path("a\nb"), "it is empty", "weights", "Delete it."))
    assert said == r"'a\nb': it is empty. Expected weights. Delete it."


def test_what_a_file_says_of_itself_is_escaped_and_cut() -> None:
    said = str(refused(PATH, f"\x1b[31mname\n{'x' * 5000}: it is empty", "weights"))
    assert said.startswith(r"a.pth: \x1b[31mname\nxxx")
    assert said.endswith("xxx.... Expected weights. Use a fresh copy of the file.")
    assert len(said) < 1100


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (ValueError("bad\nbytes"), r"cannot be read ('bad\nbytes')"),
        (KeyError("name"), "cannot be read (name)"),
        (KeyError(), "cannot be read (KeyError)"),
        (RecursionError(), "cannot be read (RecursionError)"),
        (OSError(2, "No such file"), "cannot be read ([Errno 2] No such file)"),
    ],
)
def test_what_a_library_raises_becomes_a_refusal(raised: Exception, said: str) -> None:
    with pytest.raises(WeightsError) as caught, reading(PATH, "weights"):
        raise raised
    assert str(caught.value) == f"a.pth: {said}. Expected weights. Use a fresh copy of the file."
    assert caught.value.__cause__ is raised


def test_the_array_that_was_read_is_named() -> None:
    said = r"^a\.pth: conv1: cannot be read \(short\)\."
    with pytest.raises(WeightsError, match=said), reading(PATH, "weights", "conv1"):
        raise EOFError("short")


def test_a_refusal_and_an_interrupt_pass_as_they_are() -> None:
    mine = WeightsError("mine")
    with pytest.raises(WeightsError) as caught, reading(PATH, "weights"):
        raise mine
    assert caught.value is mine
    with pytest.raises(KeyboardInterrupt), reading(PATH, "weights"):
        raise KeyboardInterrupt


def test_names_are_few_short_and_different() -> None:
    check_names(PATH, [])
    check_names(PATH, ["a" * MAX_NAME, "b"])
    with pytest.raises(WeightsError, match=rf"this name has {MAX_NAME + 1} characters"):
        check_names(PATH, ["a" * (MAX_NAME + 1)])
    with pytest.raises(WeightsError, match="b: two arrays have this name"):
        check_names(PATH, ["a", "b", "b"])
    check_names(PATH, map(str, range(MAX_NAMES)))
    with pytest.raises(WeightsError, match=f"it has more than {MAX_NAMES} arrays"):
        check_names(PATH, map(str, range(MAX_NAMES + 1)))


def test_a_file_may_unpack_to_a_hundred_times_its_size() -> None:
    assert largest_content(0) == 2**20
    assert largest_content(2**20) == 101 * 2**20
