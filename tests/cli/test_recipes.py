"""forebear recipes: the table, the files, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from forebear.cli.main import main
from forebear.settings import settings
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.recipe_files import recipes, show


def test_a_line_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["recipe", "length", "network", "what", "it", "is"]
    assert [line.split()[0] for line in lines] == list(recipes())
    words = {line.split()[0]: line.split()[1:5] for line in lines}
    assert words["cifar-paper"] == ["64,000", "steps", "paper/resnet20", "CIFAR-10"]
    assert words["finetune"] == ["by", "the", "data", "any"]
    assert max(map(len, lines)) <= 110


def test_the_file_of_one_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "show", "cifar-paper"]) == 0
    assert capsys.readouterr().out == show("cifar-paper")


def test_the_fields_are_told_as_the_record_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "fields"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    told = " ".join(text.split())
    for name, known in settings(Recipe).items():
        assert f"{name} {known.help} (" in told
        assert known.range in told
        assert known.matters_if in told
    assert "eval_size input size of validation images; 0: as size (pixels; 0 to 8,192;" in told
    assert "convolution filters (a number above 0; required)" in told
    assert "only if weight_decay is set)" in told


def test_recipes_and_fields_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*words: str) -> dict[str, Any]:
        assert main(["recipes", *words, "--json"]) == 0
        return dict(json.loads(capsys.readouterr().out))

    assert [one["name"] for one in printed()["recipes"]] == list(recipes())
    fields = {one["name"]: one for one in printed("fields")["fields"]}
    assert list(fields) == list(settings(Recipe))
    size = fields["eval_size"]
    assert (size["unit"], size["range"], size["default"]) == ("pixels", "0 to 8,192", 0)
    assert fields["lr"]["required"]
    assert fields["decay_on"]["choices"] == ["all", "weights"]
    assert fields["decay_on"]["only_if"] == "weight_decay is set"
    shown = printed("show", "cifar-paper")
    assert shown["name"] == "cifar-paper"
    values = {one["name"]: one.pop("value") for one in shown["fields"]}
    assert (values["iterations"], values["lr"]) == (64_000, 0.1)
    assert shown["fields"] == list(fields.values())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "cifar-papper"], "recipe 'cifar-papper' is unknown. Expected one of auto"),
        (["show"], "show without NAME: expected one of auto, cifar-fast"),
        (["show", "x", "--json"], "recipe 'x' is unknown. Expected one of auto"),
        (["fields", "default"], "fields with NAME 'default': expected fields alone"),
    ],
)
def test_a_name_that_is_none_is_refused(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["recipes", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_table_needs_no_torch() -> None:
    program = (
        "import sys\nfrom forebear.cli.main import main\nmain(['recipes'])\n"
        "sys.exit(str({'torch', 'numpy', 'PIL', 'rich'} & set(sys.modules) or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""
