"""forebear check --model: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

import forebear
from forebear.cli.main import main
from forebear.data.sources.registry import read_data
from tests.cli import making
from tests.cli.test_check import parts, words
from tests.data.making import noise
from tests.network.making import make
from tests.tasks.folds.making import saved_folds
from tests.tasks.labels_making import multi_table


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The weights of a network that has learned nothing, of other classes."""
    net = make("paper/resnet20", num_classes=4)
    forebear.save(net, tmp_path / "net.safetensors", classes=["a", "b", "c", "d"])
    return tmp_path / "net.safetensors"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder in which one image of stripes across is in the class of stripes down."""
    root = parts(tmp_path / "set", 12)
    (root / "train/across/3.png").rename(root / "train/down/wrong.png")
    return root


def need_libraries() -> None:
    pytest.importorskip("cleanlab")
    pytest.importorskip("imagehash")


def test_suggestions_are_printed_and_written(
    saved: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need_libraries()
    out = tmp_path / "out"
    before = sorted(root.rglob("*"))
    assert main(["check", f"folder:{root}", "--model", str(saved), "--out", str(out)]) == 0
    lines = words(capsys.readouterr().out)
    at = next(at for at, line in enumerate(lines) if line.startswith("likely label errors"))
    wrong = f"{root}/train/down/wrong.png"
    assert lines[at + 1].startswith(f"{wrong} (train, down) is likely across, score 0.")
    assert "all 42 images can be used" in "\n".join(lines)
    assert lines[-2:] == ["42 images compared; nothing was changed", f"suggestions: {out}"]
    rows = list(csv.DictReader((out / "suggestions.csv").read_text("utf-8").splitlines()))
    assert (rows[0]["path"], rows[0]["kind"]) == (wrong, "label")
    assert rows[0]["suggested label"] == "across"
    assert (out / "suggestions.html").is_file()
    assert sorted(root.rglob("*")) == before


def test_unusable_images_are_counted_and_still_decide_the_exit_code(
    saved: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need_libraries()
    (root / "train/down/broken.png").write_text("no image")
    out = ["--out", str(tmp_path / "out")]
    assert main(["check", f"folder:{root}", "--weights", str(saved), *out]) == 1
    said = "42 images compared; 1 that cannot be used were left out; nothing was changed"
    assert said in words(capsys.readouterr().out)


def test_json_has_the_counts_and_the_rows(
    saved: Path,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    need_libraries()
    monkeypatch.chdir(tmp_path)
    assert main(["check", f"folder:{root}", "--model", str(saved), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["unusable"], found["copies"]) == (42, [], 0)
    assert found["classes"][1] == {"class": "down", "train": 13, "val": 2}
    faults = found["faults"]
    assert faults["folder"] == "suggestions"
    assert (tmp_path / "suggestions/suggestions.csv").is_file()
    assert len(faults["rows"]) == sum(faults["counts"].values())
    assert faults["rows"][0]["suggested_label"] == "across"
    assert main(["check", f"folder:{root}", "--model", str(saved)]) == 2
    assert "suggestions: the folder is not empty." in capsys.readouterr().err
    assert main(["check", f"folder:{root}", "--model", str(saved), "--replace"]) == 0


def test_json_without_a_network_has_the_check_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = making.folder(tmp_path / "set", 6)
    (root / "grey/0.png").write_text("no image")
    assert main(["check", f"folder:{root}", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [row["path"] for row in found["unusable"]] == [f"{root}/grey/0.png"]
    assert "faults" not in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x"], "--out: there is no network. Expected --model RUN or --weights FILE"),
        (["--replace"], "--replace: there is no network."),
        (["--network", "paper/resnet20"], "--network: there is no network."),
        (["--model", "gone"], "gone: no such folder. Expected the --out of a forebear train."),
        (["--model", "net.onnx"], "net.onnx: an exported graph has no end points."),
    ],
)
def test_mistakes_are_refused_before_an_image_is_read(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    need_libraries()
    assert main(["check", "folder:gone", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("module", "library"), [("cleanlab", "cleanlab"), ("imagehash", "ImageH")])
def test_a_missing_library_names_the_extra(
    module: str,
    library: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    need_libraries()
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["check", "folder:gone", "--model", "runs/first"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"forebear: {library}")
    assert "Expected it for check --model. Run pip install 'forebear[faults]'." in error


def test_a_folder_that_cannot_be_made_is_one_line(
    saved: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need_libraries()
    (tmp_path / "file").write_text("")
    out = ["--out", str(tmp_path / "file/out")]
    assert main(["check", f"folder:{root}", "--model", str(saved), *out]) == 2
    assert "cannot be written (Not a directory)" in capsys.readouterr().err


def test_a_cross_validation_judges_its_own_images_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need_libraries()
    root, other = (making.folder(tmp_path / name, 12) for name in ("set", "other"))
    data = read_data(f"folder:{root}")
    plan = saved_folds(tmp_path / "cv", data, lambda at: 2 if at == 4 else -1)
    cv, out = str(tmp_path / "cv"), str(tmp_path / "out")
    assert main(["check", f"folder:{other}", "--model", cv, "--out", out]) == 2
    said = capsys.readouterr().err
    assert "36 of 36 images are not in out_of_fold.csv, such as " in said
    assert not (tmp_path / "out").exists()
    assert main(["check", f"folder:{root}", "--model", cv, "--out", out]) == 0
    lines = words(capsys.readouterr().out)
    at = lines.index("likely label errors: 1")
    assert plan.images.name(4) in lines[at + 1]
    assert "is likely grey, score " in lines[at + 1]
    assert any("images: the out-of-fold probabilities of the cross-val" in line for line in lines)


def test_of_several_labels_the_wrong_and_missing_ones_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need_libraries()
    file = multi_table(tmp_path / "data", 64)
    for at, path in enumerate(sorted((tmp_path / "data").glob("*.png"))):
        noise(at, 40, 40).save(path)  # stripes that differ little would be near-duplicates
    plan = saved_folds(tmp_path / "cv", read_data(f"csv:{file}"), lambda at: 2 if at == 4 else -1)
    had = plan.images.labels[4, 2] > 0
    given = ["check", f"csv:{file}", "--model", str(tmp_path / "cv")]
    assert main([*given, "--out", str(tmp_path / "out"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["faults"]["rows"]
    (row,) = [row for row in rows if row["kind"] == "label"]
    assert row["path"] == plan.images.name(4)
    assert ("bright" in row["suggested_label"]) is not had
    assert main([*given, "--out", str(tmp_path / "more")]) == 0
    assert f"is likely {'not' if had else 'also'} bright, score " in capsys.readouterr().out
