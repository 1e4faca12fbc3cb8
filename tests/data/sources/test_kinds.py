from __future__ import annotations

import pytest

from forebear.cli.main import main
from forebear.data.sources.kinds import SPECS, listed_specs
from forebear.data.sources.registry import KINDS


def test_every_kind_has_its_reader_and_the_other_way_round() -> None:
    assert list(SPECS) == ["digits", *KINDS]
    assert all(spec.split(":")[0] == kind for kind, spec in SPECS.items())
    assert listed_specs().startswith("digits, folder:PATH, ")
    assert listed_specs().endswith(", shards:PATH or hub:NAME")


@pytest.mark.parametrize("verb", ["train", "evaluate", "check"])
def test_the_help_of_a_verb_lists_every_kind(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert listed_specs() in words
