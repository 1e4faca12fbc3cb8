from __future__ import annotations

from pathlib import Path

import pytest

import forebear
from forebear.cli.main import main
from forebear.tasks.convert import convert
from tests.network.making import make


def saved(tmp_path: Path, name: str, file: str) -> Path:
    """A network's weights in its home's own format."""
    net = make(name, num_classes=5)
    forebear.save(net, tmp_path / "first.safetensors")
    convert(tmp_path / "first.safetensors", tmp_path / file)
    return tmp_path / file


@pytest.mark.long
def test_the_verb_says_what_it_wrote_and_how_far_it_moved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = saved(tmp_path, "keras/ResNet50", "a.h5")
    target = tmp_path / "b.safetensors"
    words = ["convert", str(first), str(target), "--rewrite", "strides", "--rewrite", "norms"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "rewrite strides: largest error " in out
    assert f"{target}: ResNet50, " in out
    assert main(words) == 2
    assert "the file exists" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "none.pth"), str(tmp_path / "c.npz")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
