from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image
from safetensors.numpy import save_file

from forebear.errors import RunError
from forebear.settings import in_force
from forebear.tasks.html_template import template
from forebear.tasks.metrics import Interval
from forebear.tasks.runs.class_table import ClassLine, ClassTable, write_class_table
from forebear.tasks.runs.examples import Example, Examples, write_examples
from forebear.tasks.runs.html_report import write_index
from forebear.tasks.train.recipe import Recipe
from forebear.text import elided
from tests.tasks.making import Made, write_run

EMPTY = {"meta", "img", "br"}


class Page(HTMLParser):
    """The words, the tags in order, and what is linked to; it refuses tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.links: set[str] = set()
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in EMPTY:
            self.open.append(tag)
        self.links |= {value or "" for name, value in attrs if name in ("href", "src")}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style" and data.strip():
            self.words.append(data.strip())


def page(folder: Path) -> Page:
    write_index(folder)
    return Page((folder / "index.html").read_text(encoding="utf-8"))


def test_a_finished_run_is_told_on_one_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "first")
    for name in ("curves.png", "mistakes.png"):
        Image.new("RGB", (8, 8)).save(run / name)
    (run / "pictures.png").write_bytes(b"damaged")
    shown = page(run)
    words = " ".join(shown.words)
    assert "finished" in shown.words
    assert "70.00% of 359 validation images correct" in words
    assert "75.00% best, after epoch 2" in words
    assert "3 min 00 s" in words
    # He et al. 2015 has 0.27 M: 269,722 for ten classes, of which each has 64 + 1
    assert "source of the network's table He et al. 2015 (arXiv 1512.03385), section 4.2" in words
    assert f"parameters {269_722 - 7 * 65:,}" in words
    assert "cat, dog, owl" in words
    assert "20% of each class" in words
    assert "started 2026-01-02 03:04:05 UTC" in words
    assert f"forebear predict {run} IMAGE ..." in words
    assert f"forebear evaluate {run} --data digits" in words
    assert shown.tags.count("img") == 2
    assert all(link.startswith("data:image/png;base64,") for link in shown.links)
    assert "script" not in shown.tags
    assert "link" not in shown.tags


def test_what_was_tested_comes_first(tmp_path: Path) -> None:
    words = " ".join(page(write_run(tmp_path / "run", Made(test=(0.625, 4000)))).words)
    assert "62.50% of 4,000 test images correct, evaluated once 70.00% of 359" in words
    (tmp_path / "run" / "model.safetensors").write_bytes(b"damaged")
    assert "test images" not in " ".join(page(tmp_path / "run").words)


def evaluated(run: Path, count: int, *, epoch: float = 3) -> None:
    """Writes what the last evaluation of a run with `count` classes measured of each class."""
    rows = range(count)
    line = ClassLine(
        name="", train=0, images=10, recall=0, recall_interval=Interval(0.25, 0.5), precision=0.5
    )
    table = ClassTable(
        epoch=epoch,
        intervals=dict.fromkeys(("top1", "balanced", "macro_f1"), Interval(0.1, 0.85)),
        classes=tuple(
            replace(line, name=f"class<{row}>", train=10 * row, recall=row / count) for row in rows
        ),
    )
    write_class_table(table, run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    more = [{**line, "val_balanced": 0.8 / line["epoch"], "val_macro_f1": 0.5} for line in lines]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in more))


def test_classes_are_a_table_with_the_worst_first_and_the_balance_of_the_training_set(
    tmp_path: Path,
) -> None:
    run = write_run(tmp_path / "run", Made(more={"request": {"metric": "balanced"}}))
    assert "Classes" not in page(run).words
    evaluated(run, 3)
    shown = page(run)
    words = " ".join(shown.words)
    assert "26.67% balanced accuracy (95% interval: 10.0 to 85.0%)" in words
    assert "50.00% macro-F1 (95% interval: 10.0 to 85.0%)" in words
    assert "80.00% best balanced accuracy, after epoch 1" in words
    assert "has 0 training images, the median class 10 and the largest 20." in words
    assert "after epoch 3, the smallest recall first" in words
    assert "class<0> 0 10 0.00% 25.0 to 50.0 50.00% class<1> 10 10 33.33%" in words
    text = (run / "index.html").read_text(encoding="utf-8")
    assert 'style="width: 50.0%"' in text
    assert "The other" not in words
    evaluated(run, 3, epoch=2)  # the intervals are not those of the last epoch
    assert "26.67% balanced accuracy 50.00% macro-F1 80" in " ".join(page(run).words)


def test_of_many_classes_the_ten_worst_are_shown_and_the_others_folded(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    evaluated(run, 25)
    shown = page(run)
    at = shown.words.index("The other 15 classes")
    assert shown.words.index("class<9>") < at < shown.words.index("class<10>")
    assert shown.tags.count("details") == 2  # with that of the epochs
    assert not any("left out" in word for word in shown.words)
    evaluated(run, 1002)
    shown = page(run)
    assert "The other 990 classes" in shown.words
    assert any(
        word.startswith("2 classes with a higher recall are left out") for word in shown.words
    )


def example(name: str, **changes: str) -> Example:
    uri = "data:image/png;base64,AAAA"
    made = Example(
        name=name, label="cat", predicted="dog", label_probability=0.02, probability=0.97,
        image=uri, map=uri,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def test_the_images_of_each_class_and_part_are_a_table(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert "Class balance" not in page(run).words
    parts = {"training": [10, 30, 20], "validation": [1, 2, 4], "test": [7, 8, 9]}
    write_examples(Examples(parts=parts), run)
    words = " ".join(page(run).words)
    assert "class training validation test dog 30 2 8 owl 20 4 9 cat 10 1 7" in words
    assert "no label" not in words
    write_examples(Examples(parts=parts, unlabelled={"training": 6, "validation": 5}), run)
    assert "cat 10 1 7 no label 6 5 0" in " ".join(page(run).words)
    assert "Labels to look at" not in words  # not known before the end of the run
    write_examples(Examples(parts={"training": [1]}), run)  # not of these classes
    assert "Class balance" not in page(run).words


def test_the_calibration_has_its_diagram(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    Image.new("RGB", (8, 8)).save(run / "calibration.png")
    assert "Calibration" not in page(run).words  # of older weights
    fitted = {
        "temperature": 1.5, "score": "probability", "threshold": 0.3, "unknown_rate": 0.05,
        "images": 60, "fingerprint": "", "ece_before": 0.2, "ece_after": 0.04,
    }  # fmt: skip
    card = {"calibration": json.dumps(fitted)}
    save_file({"w": np.zeros(1)}, run / "model.safetensors", card)
    shown = page(run)
    assert "Calibration" in shown.words
    assert "20.00% without a temperature, and 4.00% with" in " ".join(shown.words)
    assert shown.tags.count("img") == 1


def test_mistakes_have_their_maps_and_doubtful_labels_name_the_check(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    Image.new("RGB", (8, 8)).save(run / "mistakes.png")
    mistakes = (example("a/b/first.jpg"), example("second.jpg"))
    write_examples(Examples(mistakes=mistakes, suspects=(example("third.jpg", map=""),)), run)
    shown = page(run)
    words = " ".join(shown.words)
    assert "red marks the places that speak for the predicted class" in words
    assert "label: cat, 2.0% predicted: dog, 97.0% b/first.jpg" in words
    assert words.index("second.jpg") < words.index("More mistakes") < words.index("third.jpg")
    assert f"forebear check digits --model {run}" in words
    assert shown.tags.count("img") == 2 * 2 + 1 + 1
    write_examples(Examples(mistakes=(example("a", map=""),), suspects=()), run)
    words = " ".join(page(run).words)
    assert "red marks" not in words
    assert "predicts the given label of every validation image" in words


def test_an_even_training_set_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    evaluated(run, 1)
    assert "Every class has 0 training images." in page(run).words


def test_an_unfinished_run_says_so_and_how_to_go_on(tmp_path: Path) -> None:
    made = Made(finished=False, recipe={"epochs": 15})
    shown = page(write_run(tmp_path / "first", made))
    assert "unfinished: 3 of 15 epochs done" in shown.words
    assert f"forebear train --resume {tmp_path / 'first'}" in shown.words
    assert not any("forebear predict" in word for word in shown.words)
    (tmp_path / "first" / "best.safetensors").touch()
    best = tmp_path / "first" / "best.safetensors"
    assert f"forebear predict {best} IMAGE ..." in page(tmp_path / "first").words
    begun = page(write_run(tmp_path / "second", Made(finished=False, accuracies=())))
    assert "unfinished: no epoch finished yet" in begun.words


def test_names_are_words_and_never_markup(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>&amp;\""
    made = Made(
        data={"spec": evil, "classes": [evil, "b", "c"], "split": evil, "fingerprint": evil},
        recipe={"summary": evil, "precision": evil},
        more={"network": evil, "started": evil, "machine": {evil: evil}, "versions": {evil: evil}},
    )
    run = write_run(tmp_path / "<img src=x>", made)
    shown = page(run)
    assert "script" not in shown.tags
    assert "img" not in shown.tags
    assert evil in shown.words


def test_the_template_is_shipped_with_the_package() -> None:
    root = Path(__file__).parents[3]
    data = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]
    source = root / "src" / "forebear"
    shipped = {path for pattern in data["forebear"] for path in source.glob(pattern)}
    assert source / "tasks" / "runs" / "report.html.j2" in shipped


def test_a_value_that_the_template_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'title' is undefined"):
        template("forebear.tasks.runs", "report.html.j2", elided).render()


def test_an_older_run_with_fewer_keys_is_told_as_well(tmp_path: Path) -> None:
    run = tmp_path / "old"
    run.mkdir()
    (run / "settings.json").write_text(json.dumps({"network": "x", "recipe": {"lr": 0.1}}))
    lines = ['{"epoch": 1, "val_accuracy": 0.5, "new": {}}', "[1]", '{"epoch": 2, "val_acc']
    (run / "metrics.jsonl").write_text("\n".join(lines))
    words = " ".join(page(run).words)
    assert "unfinished: 1 epoch done" in words
    assert "source of" not in words
    assert "50.00%" in words


def test_epochs_are_a_table_with_the_best_one_marked(tmp_path: Path) -> None:
    write_index(write_run(tmp_path / "run"))
    text = (tmp_path / "run" / "index.html").read_text(encoding="utf-8")
    rows = [row for row in text.splitlines() if row.startswith("<tr")]
    assert rows[0].startswith("<tr><th>epoch</th><th>step</th><th>learning rate</th><th>loss</th>")
    assert [row[:22] for row in rows[1:]] == [
        "<tr><td>3</td><td>69</",
        '<tr class="best"><td>2',
        "<tr><td>1</td><td>23</",
    ]
    assert "skipped" not in rows[0]


def test_values_that_the_recipe_leaves_open_say_who_chose_them(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    settings = json.loads((run / "settings.json").read_text())
    settings["recipe"] = {"lr": 0.1, "size": 32, "batch": 64, "precision": "bf16"}
    settings["chosen_by"] = {"lr": "recipe", "size": "data", "batch": "budget", "precision": [1]}
    (run / "settings.json").write_text(json.dumps(settings))
    words = " ".join(page(run).words)
    assert "size 32 (chosen by the data)" in words
    assert "batch 64 (chosen by the budget)" in words
    assert "lr 0.1 " in words
    assert "lr 0.1 (" not in words  # the recipe's own value
    assert "bf16 (" not in words  # no origin that forebear writes
    settings["chosen_by"] = "nobody"
    (run / "settings.json").write_text(json.dumps(settings))
    assert "size 32 " in " ".join(page(run).words)


def test_of_a_recipe_only_what_has_a_say_is_told() -> None:
    recipe = {
        "optimizer": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "beta2": 0.999,
        "nesterov": False,
        "weight_decay": 5e-4,
        "decay_on": "weights",
        "schedule": "triangular",
        "gamma": 0.1,
        "crop": "shift",
        "shift": 4,
        "crop_scale": [0.08, 1],
        "size_from": 0,
        "growth": [0, 1],
        "policy": "none",
        "magnitude": 9,
        "loss": "ce",
        "repeated_augmentation": 1,
        "mirror": "none",
        "seed": 0,
    }
    told = ["optimizer", "lr", "momentum", "weight_decay", "decay_on", "schedule", "crop", "shift"]
    assert list(in_force(Recipe, recipe)) == [*told, "seed"]
    other = recipe | {"optimizer": "lamb", "policy": "randaugment", "crop": "resized"}
    assert {"beta2", "magnitude", "crop_scale"} <= in_force(Recipe, other).keys()
    assert "shift" not in in_force(Recipe, other)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run: settings.json is missing. Expected the --out"):
        write_index(tmp_path)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        write_index(tmp_path)
