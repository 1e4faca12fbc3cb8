from __future__ import annotations

import sys
from pathlib import Path

import pytest

from forebear.data.sources.registry import read_data
from forebear.errors import DataError


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("foldr:images", r"unknown kind of data\. Did you mean folder\?"),
        ("digit", "Did you mean digits"),
        (
            "what",
            r"data='what': unknown kind of data\. Expected digits, folder:PATH, .* or hub:NAME\.",
        ),
        ("folder:", "the path is missing"),
        ("npz", "the path is missing"),
        ("digits:there", "takes no path"),
        ("", "unknown kind"),
    ],
)
def test_specs_of_another_form_are_explained(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_data(spec)


def test_a_bare_path_is_given_its_kind(tmp_path: Path) -> None:
    kinds = {
        "a.npz": "npz",
        "b.parquet": "parquet",
        "c.tar.gz": "cifar10",
        "cifar-100-python.tar.gz": "cifar100",
        "train-000.tar": "shards",
    }
    for name, kind in kinds.items():
        (tmp_path / name).touch()
        with pytest.raises(ValueError, match=f"Did you mean {kind}:.*{name}"):
            read_data(str(tmp_path / name))
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match=r"Did you mean folder:.*images"):
        read_data(str(tmp_path / "images"))
    with pytest.raises(ValueError, match="Did you mean parquet:"):
        read_data(str(tmp_path))
    for name, kind in {"x.tar": "shards", "train-images-idx3-ubyte.gz": "idx"}.items():
        folder = tmp_path / kind
        folder.mkdir()
        (folder / name).touch()
        with pytest.raises(ValueError, match=f"Did you mean {kind}:.*{kind}"):
            read_data(str(folder))


def test_home_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataError, match=f"{tmp_path}/images: no such folder"):
        read_data("folder:~/images")


@pytest.mark.parametrize(
    ("spec", "module"), [("digits", "sklearn.datasets"), ("parquet:x.parquet", "pyarrow")]
)
def test_a_missing_package_names_the_extra(
    spec: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=r"pip install 'forebear\[data\]'"):
        read_data(spec)
