from __future__ import annotations

import re
from pathlib import Path

from forebear.tasks.folds.page import page, write_page
from tests.tasks.folds.making import cross_validation, label_predictions, predictions


def test_the_page_has_all_results_links_to_the_runs_and_the_confusion_matrix() -> None:
    html = page(cross_validation(), table="out_of_fold.csv")
    assert "2-fold cross-validation <small>on folder:pictures</small>" in html
    assert "stratified by class and in whole groups by {group}_*.png" in html
    assert '<a href="fold-2/index.html">fold 2</a></td><td>3</td><td>66.67%</td>' in html
    assert "<b>83.33%</b><span>mean top-1 accuracy, ±\u00a023.57%</span>" in html
    assert "Each of 6 images was classified" in html
    assert '<a href="out_of_fold.csv">' in html
    cells = re.findall(r'--share: (\d+)%">(\d)</td>', html)
    assert cells == [("100", "3"), ("0", "0"), ("33", "1"), ("67", "2")]
    assert "cannot be decoded" not in html


def test_names_are_escaped_and_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    found = cross_validation(found=predictions(left_out=True))
    write_page(tmp_path / "index.html", found, table="t.csv")
    html = (tmp_path / "index.html").read_text()
    assert "<dog>" not in html
    assert "&lt;dog&gt;" in html
    assert "1 images that cannot be decoded are left out" in html
    assert not re.findall(r"https?:|<script|<img|<link", html)


def test_the_page_of_labels_has_a_row_for_each_and_no_matrix() -> None:
    html = page(cross_validation(found=label_predictions()), table="out_of_fold.csv")
    assert "stratified by label" in html
    assert "Each of 6 images was given labels by" in html
    assert "mean macro-F1" in html
    row = ">cat</td><td>4</td><td>1</td><td>0</td><td>91.67%</td><td>85.71%</td><td>100.00%</td>"
    assert f"{row}<td>75.00%</td><td>0.500</td>" in html
    assert html.index(">&lt;dog&gt;</td>") < html.index(">cat</td>")  # the worst one first
    assert "--share" not in html.partition("</style>")[2]
    assert "true class" not in html
    assert "Images without a label: 1, of which 1 were given none." in html
