"""forebear recipes: the table, the files, and what it refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from forebear.cli.main import main
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "cifar-papper"], "recipe 'cifar-papper' is unknown. Expected one of cifar-fast"),
        (["show"], "show without NAME: expected one of cifar-fast"),
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
