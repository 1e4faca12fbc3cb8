"""--group-by, --images and named columns of train, evaluate and check, from table to run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import forebear
from forebear.cli.main import main
from forebear.errors import RunError
from forebear.tasks.train.events import Event, StepStart, observe
from tests.cli import making

PATIENTS = 8  # of each class


def patients(path: Path, split: str = "") -> Path:
    """A table of images in `path`/pictures: the patient number n has 1 + n % 3 of them."""
    rows = [f"file,kind,patient{',split' if split else ''}"]
    for kind, name in enumerate(making.CLASSES):
        for patient in range(PATIENTS):
            for copy in range(1 + patient % 3):
                file = path / "pictures" / name / f"{name}{patient}_{copy}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(making.image(kind, 10 * patient + copy)).save(file)
                part = f",{split if patient == 0 or copy else 'train'}" if split else ""
                rows.append(f"{name}/{file.name},{name},{name}{patient}{part}")
    table = path / "labels.csv"
    table.write_text("\n".join(rows))
    return table


def flags(table: Path, *more: Any) -> list[str]:
    images = ("--images", table.parent / "pictures", "--image-column", "file")
    return [str(one) for one in (*images, "--label-column", "KIND", *more)]


def test_check_counts_groups_and_lists_them_in_the_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, manifest = patients(tmp_path), tmp_path / "m.jsonl"
    by = ("--group-by", "patient", "--manifest", manifest)
    assert main(["check", f"csv:{table}", *flags(table, *by)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert len(rows) == 45
    sides = [{row["group"] for row in rows if row["part"] == part} for part in ("train", "val")]
    assert not sides[0] & sides[1]
    said = f"24 groups by patient (train {len(sides[0])}, validation {len(sides[1])})"
    assert out.count(said) == 2  # in the first line, and in the table of facts
    for row in rows:
        assert Path(row["name"]).name.startswith(f"{row['group']}_")
        assert row["group"].startswith(row["label"])


def test_check_lists_groups_across_given_parts_and_train_and_evaluate_refuse_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = patients(tmp_path, "val")
    by = flags(table, "--group-by", "patient")
    assert main(["check", f"csv:{table}", *by]) == 1
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("15 groups across given parts, which train --group-by refuses")
    assert lines[at + 1].startswith("  across1 is in train (1 image, such as ")
    assert lines[at + 6] == "  ... and 10 more"
    assert main(["check", f"csv:{table}", *flags(table)]) == 0
    said = f"csv:{table}: the group across1 is in train (1 image, such as "
    assert main(["train", "--data", f"csv:{table}", *by]) == 2
    assert said in capsys.readouterr().err
    net = forebear.create("paper/resnet20", num_classes=3)
    forebear.save(net, tmp_path / "net.safetensors", classes=list(making.CLASSES))
    weights = str(tmp_path / "net.safetensors")
    assert main(["evaluate", weights, "--data", f"csv:{table}", *by]) == 2
    assert said in capsys.readouterr().err


def test_check_gives_the_groups_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = patients(tmp_path, "val")
    assert main(["check", f"csv:{table}", "--json", *flags(table, "--group-by", "patient")]) == 1
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert (groups["by"], groups["count"]) == ("patient", 24)
    assert groups["images_per_group"] == {"smallest": 1, "median": 2, "largest": 3}
    assert groups["parts"]["train"] + groups["parts"]["val"] == 24 + len(groups["across_parts"])
    assert len(groups["across_parts"]) == 15
    assert groups["across_parts"][0] == {"group": "across1", "train": 1, "val": 1}
    assert main(["check", f"csv:{table}", "--json", *flags(table)]) == 0
    assert "groups" not in json.loads(capsys.readouterr().out)


def test_a_run_is_evaluated_on_the_groups_that_it_did_not_see(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = patients(tmp_path)
    net, run = making.table(tmp_path / "tiny.toml"), tmp_path / "run"
    by = flags(table, "--group-by", "{group}_#.png")
    form = ["--network", str(net), "--dialect", "torchvision", "--size", "16", "--epochs", "1"]
    data = ["--data", f"csv:{table}"]
    assert main(["train", *data, *by, *form, "--hold-out", "0.3", "--out", str(run)]) == 0
    err = capsys.readouterr().err
    assert "; 24 groups by {group}_#.png (train " in err
    assert ", test " in err
    settings = json.loads((run / "settings.json").read_text())
    assert settings["request"]["group_by"] == "{group}_#.png"
    assert settings["request"]["images"] == str(tmp_path / "pictures")
    assert sum(settings["data"]["groups"].values()) == 24
    assert main(["evaluate", str(run), *data, *by]) == 0
    assert "validation images, of 45 in all: the network was trained on" in capsys.readouterr().err
    assert main(["evaluate", str(run), *data, *flags(table)]) == 0
    assert "the network was trained with --group-by {group}_#.png: if" in capsys.readouterr().err


def broken(tmp_path: Path) -> tuple[Path, Path]:
    """A table, and a run on it by patients that ended at its second step."""
    table = patients(tmp_path)

    def end(event: Event) -> None:
        if isinstance(event, StepStart) and event.step == 2:
            raise KeyboardInterrupt

    config = forebear.TrainConfig(
        data=f"csv:{table}",
        images=tmp_path / "pictures",
        image_column="file",
        label_column="kind",
        group_by="patient",
        network=str(making.table(tmp_path / "tiny.toml")),
        dialect="torchvision",
        out=tmp_path / "run",
        size=16,
        batch=8,
        epochs=1,
        threads=1,
    )
    with observe(end), pytest.raises(KeyboardInterrupt):
        forebear.train(config)
    return table, tmp_path / "run"


def test_a_run_resumes_with_its_columns_and_groups(tmp_path: Path) -> None:
    table, run = broken(tmp_path)
    settings = json.loads((run / "settings.json").read_text())
    assert settings["request"]["group_by"] == "patient"
    result = forebear.resume(run, device="cpu", threads=1)
    assert result.validation.images == settings["data"]["held_out"]
    assert table.exists()


def test_a_run_does_not_resume_on_another_split_by_groups(tmp_path: Path) -> None:
    table, run = broken(tmp_path)
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head, *(f"{row}{at % 2}" for at, row in enumerate(rows))]))
    with pytest.raises(RunError, match="have changed since the run began"):
        forebear.resume(run, device="cpu", threads=1)


def test_one_class_in_a_table_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = patients(tmp_path)
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head, *(row for row in rows if ",down," in row)]))
    assert main(["train", "--data", f"csv:{table}", *flags(table)]) == 2
    said = f"csv:{table}: only one class, down, so a network that always answers it is right."
    assert said in capsys.readouterr().err
