"""What ties a checkpoint to the settings of its run."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from forebear.tasks.runs.identity import RunIdentity, identity_of

SETTINGS: dict[str, Any] = {
    "id": "abc",
    "recipe": {"lr": 0.1},
    "data": {"spec": "folder:here", "fingerprint": "f"},
    "request": {"workers": 2, "bad": "fail"},
}


def test_the_layout_of_the_file_does_not_matter() -> None:
    assert identity_of(json.dumps(SETTINGS)) == identity_of(json.dumps(SETTINGS, indent=2))


@pytest.mark.parametrize(
    ("group", "name", "value", "same"),
    [
        ("recipe", "lr", 0.2, False),
        ("data", "fingerprint", "g", False),
        ("request", "bad", "skip", False),
        ("data", "spec", "folder:there", True),
        ("request", "workers", 0, True),
        ("request", "track", "mlflow", True),
        ("request", "images", "there", True),
        ("request", "group_by", "patient", False),
    ],
)
def test_only_what_decides_the_result_is_compared(
    group: str, name: str, value: object, same: bool
) -> None:
    own = identity_of(json.dumps(SETTINGS))
    edited = SETTINGS | {group: SETTINGS[group] | {name: value}}
    fault = identity_of(json.dumps(edited)).mismatch(asdict(own))
    assert fault == ("" if same else "settings.json was changed since")


def test_another_run_and_older_versions() -> None:
    own = identity_of(json.dumps(SETTINGS))
    assert own.mismatch({"id": "other", "settings": own.settings}) == "it is of another run"
    assert own.mismatch(None) == "it is of another run"
    old = identity_of(json.dumps({"recipe": {}}))
    assert old == RunIdentity()
    assert old.mismatch(None) == ""
