"""hf:OWNER/NAME: what is fetched, from where, and what is said if that is impossible."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import forebear
from forebear import WeightsError
from forebear.cli.main import main
from forebear.weights import hub_source
from forebear.weights.hub_source import FILES, located
from forebear.weights.writers.transformers_folder import write_transformers

Install = Callable[[Callable[..., str]], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a huggingface_hub whose snapshot_download is a function of the test."""

    def put(download: Callable[..., str]) -> None:
        hub = types.ModuleType("huggingface_hub")
        hub.__spec__ = types.SimpleNamespace(name="huggingface_hub")  # type: ignore[assignment]
        hub.snapshot_download = download  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "huggingface_hub", hub)

    hub_source._snapshot.cache_clear()
    yield put
    hub_source._snapshot.cache_clear()


@pytest.fixture
def snapshot(tmp_path: Path) -> tuple[Path, forebear.Network]:
    """A folder as the Hub's cache has it, with links to the files, and its network."""
    network = forebear.create("timm/resnet18", num_classes=3).eval()
    write_transformers(tmp_path / "blobs", network)
    (tmp_path / "snapshot").mkdir()
    for file in (tmp_path / "blobs").iterdir():
        (tmp_path / "snapshot" / file.name).symlink_to(file)
    return tmp_path / "snapshot", network


@pytest.mark.long
def test_a_repository_is_a_checkpoint(
    snapshot: tuple[Path, forebear.Network], install: Install, tmp_path: Path
) -> None:
    folder, network = snapshot
    asked: list[Any] = []

    def download(repo: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repo, revision, allow_patterns))
        return str(folder)

    install(download)
    found = forebear.load("hf:someone/some-net")
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(found(images), network(images))
    assert set(forebear.read_arrays("hf:someone/some-net")) == set(forebear.read_arrays(folder))
    assert asked == [("someone/some-net", None, [*FILES])]  # once in a process
    forebear.load("hf:someone/some-net@v1.0")
    assert asked[1][:2] == ("someone/some-net", "v1.0")
    Image.new("RGB", (64, 64), (9, 99, 199)).save(tmp_path / "a.png")
    assert main(["predict", "--weights", "hf:someone/some-net", str(tmp_path / "a.png")]) == 0
    target = str(tmp_path / "a.safetensors")
    assert main(["convert", "hf:someone/some-net", target, "--to", "forebear"]) == 0


def test_no_pickle_and_no_program_is_fetched() -> None:
    from fnmatch import fnmatch

    for name in ("pytorch_model.bin", "a.py", "model.pt", "flax_model.msgpack", "onnx/model.onnx"):
        assert not any(fnmatch(name, pattern) for pattern in FILES)
    for name in ("model-00001-of-00002.safetensors", "config.json"):
        assert any(fnmatch(name, pattern) for pattern in FILES)


class RepositoryNotFoundError(OSError):
    pass


class LocalEntryNotFoundError(FileNotFoundError):
    pass


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (RepositoryNotFoundError("404 Client Error.\nNot found"), "Check the name"),
        (LocalEntryNotFoundError("outgoing traffic is disabled"), "unset HF_HUB_OFFLINE"),
        (TimeoutError("too slow"), "Check the connection and try again."),
    ],
)
def test_what_the_hub_refuses(error: Exception, remedy: str, install: Install) -> None:
    def download(*_: object, **__: object) -> str:
        raise error

    install(download)
    with pytest.raises(WeightsError, match=r"^hf:a/b: it cannot be fetched \(") as caught:
        located(Path("hf:a/b"))
    said = str(caught.value)
    assert said.isprintable()
    assert remedy in said
    assert "Expected hf:OWNER/NAME" in said


@pytest.mark.parametrize("name", ["hf:", "hf:resnet-50", "hf:a/b/c", "hf:a/b@", "hf:a b/c"])
def test_malformed_names(name: str) -> None:
    with pytest.raises(WeightsError, match="this is no name of the Hub"):
        forebear.load(name)


def test_a_repository_without_safetensors(install: Install, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    install(lambda *_, **__: str(tmp_path))
    with pytest.raises(WeightsError, match=r"^hf:a/b: this repository has no model\.safetensors"):
        forebear.load("hf:a/b")


def test_without_huggingface_hub(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"pip install 'forebear\[hub\]'"):
        located(Path("hf:a/b"))


def test_other_paths_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hf:a").mkdir()
    for path in (Path("a/b.pth"), Path("hf:a")):
        assert located(path) == path
