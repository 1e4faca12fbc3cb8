"""What is found on this machine, from facts that are given."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
import torch

from forebear.hardware import FORCE, processor
from forebear.tasks.doctor import Extra, report
from forebear.version import __version__

NEEDS = [
    "torch>=2.10",
    "no.such-package",
    "matplotlib>=3; extra == 'plots'",
    'no-such-plots; extra == "plots"',
    "forebear[plots]; extra == 'all'",
    "ruff; extra == 'dev'",
]


def test_versions_are_those_of_forebear_python_and_what_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: NEEDS if name == "forebear" else None)
    found = report()
    versions = dict(found.versions)
    assert list(versions) == ["forebear", "python", "torch", "no.such-package"]
    assert versions["forebear"] == __version__
    assert versions["torch"] == torch.__version__  # with its build
    assert versions["no.such-package"] == ""


def test_an_extra_is_installed_if_all_of_its_packages_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda _: NEEDS)
    (plots,) = report().extras
    drawn = metadata.version("matplotlib")
    assert plots == Extra(name="plots", packages=(("matplotlib", drawn), ("no-such-plots", "")))
    assert not plots.installed
    assert Extra(name="plots", packages=plots.packages[:1]).installed


def test_a_source_tree_has_no_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "requires", missing)
    found = report()
    assert found.extras == ()
    assert [name for name, _ in found.versions] == ["forebear", "python"]


def test_the_processor_is_as_it_is_forced_and_its_own_level_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(FORCE, raising=False)
    own = report()
    assert own.processor == processor()
    assert own.own_level == own.processor.level
    monkeypatch.setenv(FORCE, "none")
    forced = report()
    assert (forced.processor.level, forced.own_level) == ("none", own.own_level)
    assert forced.precision == "fp32"
    assert {kernel.why_not for kernel in forced.kernels if not kernel.used} == {f"{FORCE}=none"}
    assert forced.torch_threads == torch.get_num_threads()


def test_caches_are_counted_without_following_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path / "home"))
    assert report().caches == ()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/large").write_bytes(bytes(10_000))
    (tmp_path / "home/cache/deep").mkdir(parents=True)
    (tmp_path / "home/cache/deep/pixels").write_bytes(bytes(300))
    for name, target in {"link": "other/large", "linked": "other"}.items():
        (tmp_path / "home/cache" / name).symlink_to(tmp_path / target)
    (tmp_path / "home/note").write_bytes(b"12")
    links = sum((tmp_path / "home/cache" / name).lstat().st_size for name in ("link", "linked"))
    found = report()
    assert found.home == tmp_path / "home"
    assert [(cache.path.name, cache.size) for cache in found.caches] == [
        ("cache", 300 + links),
        ("note", 2),
    ]
