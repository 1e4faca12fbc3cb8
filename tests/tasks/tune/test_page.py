"""The page of a search: what it shows, and where the points of its plots are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forebear.tasks.tune.page import Axis, page, write_page
from tests.tasks.tune.making import result


def test_the_page_has_the_winner_the_caveat_and_every_trial(tmp_path: Path) -> None:
    html = page(result(tmp_path), "folder:pictures")
    assert "<b>75.00%</b><span>top-1 accuracy of the winner, validation</span>" in html
    assert "<b>62.50%</b><span>of the winner, 80 test images</span>" in html
    assert "so this number is optimistic" in html
    assert len(re.findall(r'<a href="trial-00\d/index.html">trial', html)) == 5
    assert html.count("<svg") == 3  # the time, lr and mirror


def test_the_line_is_the_best_so_far(tmp_path: Path) -> None:
    line = re.findall(r'<polyline points="([^"]*)"', page(result(tmp_path), "digits"))[0]
    heights = [float(point.split(",")[1]) for point in line.split()]
    assert heights == [170.0, 170.0, 12.0, 12.0, 12.0]


def test_names_are_escaped_and_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    write_page(tmp_path / "index.html", result(tmp_path), "folder:<b>")
    html = (tmp_path / "index.html").read_text()
    assert "&lt;none&gt;" in html
    assert "<none>" not in html
    assert "folder:<b>" not in html
    assert not re.findall(r"https?:|<script|<img|<link", html)


def test_values_of_different_size_get_a_logarithmic_scale() -> None:
    axis = Axis.of([0.01, 1.0])
    assert axis.log
    assert axis.share(0.1) == pytest.approx(0.5)
    assert not Axis.of([0.1, 0.2]).log
    assert not Axis.of([0.0, 1.0]).log


def test_words_and_equal_numbers_have_places() -> None:
    assert [Axis.of(["a", "b"]).share(one) for one in ("a", "b")] == [0.25, 0.75]
    assert Axis.of([True, False]).ticks == ["false", "true"]
    assert Axis.of([3, 3]).share(3) == 0.5
