from __future__ import annotations

import re
from pathlib import Path

from forebear.tasks.folds.page import page, write_page
from tests.tasks.folds.making import cross_validation


def test_the_page_has_all_results_links_to_the_runs_and_the_confusion_matrix() -> None:
    html = page(cross_validation(), table="out_of_fold.csv")
    assert "2-fold cross-validation <small>on folder:pictures</small>" in html
    assert "in whole groups by {group}_*.png" in html
    assert '<a href="fold-2/index.html">fold 2</a></td><td>3</td><td>50.00%</td>' in html
    assert "<b>75.00%</b><span>mean top-1 accuracy, ± 35.36%</span>" in html
    assert "Each of 6 images was classified" in html
    assert '<a href="out_of_fold.csv">' in html
    cells = re.findall(r'--share: (\d+)%">(\d)</td>', html)
    assert cells == [("100", "3"), ("0", "0"), ("33", "1"), ("67", "2")]
    assert "cannot be decoded" not in html


def test_names_are_escaped_and_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    write_page(tmp_path / "index.html", cross_validation(left_out=True), table="t.csv")
    html = (tmp_path / "index.html").read_text()
    assert "<dog>" not in html
    assert "&lt;dog&gt;" in html
    assert "1 images that cannot be decoded are left out" in html
    assert not re.findall(r"https?:|<script|<img|<link", html)
