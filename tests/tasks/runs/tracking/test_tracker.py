from __future__ import annotations

import logging
import warnings
from typing import Any

import pytest

from forebear.errors import ForebearError
from forebear.tasks.runs.tracking.tracker import imported, quiet


def test_a_library_that_fails_in_any_way_is_refused_with_the_name_of_the_extra() -> None:
    def load() -> Any:
        raise AttributeError("numpy has no\nattribute float_")

    with pytest.raises(ForebearError) as found:
        imported(load, "mlflow")
    assert str(found.value) == (
        "mlflow cannot be imported ('numpy has no\\nattribute float_'). Expected it for --track "
        "mlflow. Run pip install 'forebear[mlflow]'."
    )


def test_a_quiet_library_prints_warns_and_logs_nothing(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with quiet():
        print("welcome")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.getLogger("library").warning("creating tables")
    assert capsys.readouterr() == ("", "")
    assert not caplog.records
    logging.getLogger("library").warning("after it")
    assert [one.getMessage() for one in caplog.records] == ["after it"]
