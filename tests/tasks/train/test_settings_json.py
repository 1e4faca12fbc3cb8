from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

import forebear
from forebear.tasks.machine.distributed import ALONE
from forebear.tasks.train.events import Event, StepStart, observe
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.resume.restore import restore_setup
from forebear.tasks.train.settings_json import KEPT
from tests.cli.making import folder, table


def broken(tmp_path: Path) -> Path:
    """A run that ended at its second step."""
    folder(tmp_path / "data")
    config = forebear.TrainConfig(
        data=f"folder:{tmp_path / 'data'}",
        network=str(table(tmp_path / "tiny.toml")),
        dialect="torchvision",
        out=tmp_path / "run",
        size=16,
        lr=0.05,
        sets=("momentum=0.8",),
        epochs=1,
        threads=1,
        workers=2,
        every=5,
    )

    def end(event: Event) -> None:
        if isinstance(event, StepStart) and event.step == 2:
            raise KeyboardInterrupt

    with observe(end), pytest.raises(KeyboardInterrupt):
        forebear.train(config)
    return tmp_path / "run"


def test_settings_hold_what_the_run_is_made_from_and_who_chose_it(tmp_path: Path) -> None:
    settings = json.loads((broken(tmp_path) / "settings.json").read_text())
    assert list(settings) == [
        "table", "dialect", "started", "network", "data", "recipe", "chosen_by", "weights",
        "request", "preprocessing", "machine", "versions", "id",
    ]  # fmt: skip
    assert list(settings["request"]) == list(KEPT)
    assert (settings["request"]["workers"], settings["request"]["every"]) == (2, 5)
    assert settings["request"]["compile"] == "off"  # as it was chosen, not "auto"
    data = settings["data"]
    assert (data["train"], data["held_out"], data["evaluated"]) == (51, 9, 9)
    names = [one.name for one in fields(Recipe)]
    assert list(settings["recipe"]) == list(settings["chosen_by"]) == names
    chosen = settings["chosen_by"]
    assert [chosen[name] for name in ("lr", "momentum", "epochs", "size")] == ["user"] * 4
    assert (chosen["batch"], chosen["precision"], chosen["beta2"]) == ("data", "machine", "recipe")
    assert settings["recipe"]["size"] == 16


def test_settings_of_an_older_version_do_not_say_who_chose(tmp_path: Path) -> None:
    run = broken(tmp_path)
    settings = json.loads((run / "settings.json").read_text())
    chosen = settings.pop("chosen_by")

    def resumed() -> dict[str, str]:
        setup = restore_setup(run, device="cpu", threads=1, world=ALONE, started=0.0)
        assert setup.resolved.recipe.lr == 0.05
        return dict(setup.resolved.origins)

    assert resumed() == chosen
    (run / "settings.json").write_text(json.dumps(settings))
    assert set(resumed().values()) == {"unknown"}


def test_every_kept_field_is_one_of_the_request() -> None:
    assert set(KEPT) <= {one.name for one in fields(forebear.TrainConfig)}
