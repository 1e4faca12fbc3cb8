from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import forebear
from forebear.hardware import FORCE, LEVELS, Level, own_level
from forebear.network.accelerate import accelerate
from forebear.network.kernels import native
from forebear.network.kernels.fused_norm import fits, normed
from forebear.network.kernels.grouped_conv import has_groups
from forebear.network.kernels.max_pool import fits as pool_fits
from forebear.network.kernels.max_pool import max_pool
from forebear.network.kernels.native import Library
from forebear.network.kernels.status import built_by, kernels
from forebear.network.kernels.winograd import has_winograd

OWN = LEVELS[1 : LEVELS.index(own_level()) + 1]  # those with kernels that this machine can run
is_built = pytest.mark.skipif(
    "no C compiler" in str(native.library()), reason="the C functions were not built"
)


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(FORCE, raising=False)
    native._library.cache_clear()
    yield
    native._library.cache_clear()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the library and its record, which a test may damage."""
    for path in (native.LIBRARY, native.RECORD):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "libforebear.so")
    monkeypatch.setattr(native, "RECORD", tmp_path / "libforebear.json")
    return tmp_path


def record(package: Path, **changes: Any) -> None:
    found = json.loads((package / "libforebear.json").read_text())
    (package / "libforebear.json").write_text(json.dumps(found | changes))


@is_built
@pytest.mark.parametrize("level", OWN)
def test_each_level_has_its_own_functions(level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORCE, level)
    found = native.library()
    assert isinstance(found, Library)
    assert found.level == level
    assert has_groups() == (level == "avx512-bf16")
    assert has_groups(torch.float32) == has_winograd(torch.float32) == (level != "generic")
    used = {kernel.name: kernel.used for kernel in kernels()}
    assert used["max-pool"]
    assert used["Winograd 3x3 convolutions, bf16"] == has_winograd()
    assert used["Winograd 3x3 convolutions, fp32"] == has_winograd(torch.float32)


@is_built
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("level", OWN)
def test_each_level_computes_what_torch_does(
    level: Level, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FORCE, level)
    draws = torch.Generator().manual_seed(0)
    x, added, dy = (
        torch.randn(3, 32, 9, 7, generator=draws).to(dtype, memory_format=torch.channels_last)
        for _ in range(3)
    )
    norm = nn.BatchNorm2d(32)
    x.requires_grad_()
    assert fits(norm, x, added, "relu")
    close = 2e-2 if dtype == torch.bfloat16 else 1e-4
    found = normed(norm, x, added, activation="relu")
    (dx,) = torch.autograd.grad(found, x, dy)
    exact = x.detach().double().requires_grad_()
    twin = nn.BatchNorm2d(32).double()
    wanted = F.relu(twin(exact) + added)
    (exact_dx,) = torch.autograd.grad(wanted, exact, dy.double())
    assert torch.allclose(found.double(), wanted, rtol=close, atol=close)
    assert norm.running_var is not None
    assert twin.running_var is not None
    assert torch.allclose(norm.running_var.double(), twin.running_var, atol=1e-5)
    kept = found.detach() != 0  # where rounding puts a value on the other side of 0, none is right
    kept &= (found.detach() > 0.05) | (found.detach() == 0)
    assert torch.allclose(dx.double()[kept], exact_dx[kept], atol=3 * close)

    pads = (1, 1, 1, 1)
    assert pool_fits(x, 3, pads)
    pooled, plain = max_pool(x, 3, 2, pads), F.max_pool2d(x, 3, 2, 1)
    assert torch.equal(pooled, plain)
    given = torch.randn(plain.shape, generator=draws).to(dtype)
    (dx,), (wanted_dx,) = (torch.autograd.grad(one, x, given) for one in (pooled, plain))
    assert torch.allclose(dx.float(), wanted_dx.float(), rtol=close, atol=close)


def test_no_level_means_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORCE, "none")
    assert native.library() == "FOREBEAR_CPU=none"
    assert [kernel.used for kernel in kernels()] == [True] + 7 * [False]
    assert {kernel.why_not for kernel in kernels()} == {"", "FOREBEAR_CPU=none"}


def cut(package: Path) -> None:
    whole = (package / "libforebear.so").read_bytes()
    (package / "libforebear.so").write_bytes(whole[: len(whole) // 3])


def exchanged(package: Path) -> None:
    """What another architecture's library is to this one: its record is right."""
    (package / "libforebear.so").write_bytes(b"\x7fELF of another machine")
    digest = hashlib.sha256((package / "libforebear.so").read_bytes()).hexdigest()
    record(package, library=digest)


def stale(package: Path) -> None:
    (package / "norm.c").write_text("/* not what was built */")


def gone(package: Path) -> None:
    (package / "libforebear.so").unlink()


def without_record(package: Path) -> None:
    (package / "libforebear.json").unlink()


def not_built(package: Path) -> None:
    record(package, error="there is no C compiler (cc); install gcc")


def garbled(package: Path) -> None:
    (package / "libforebear.json").write_text('["levels"]')


def of_no_level(package: Path) -> None:
    record(package, levels=[])


@is_built
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "libforebear.so is damaged; install forebear again"),
        (exchanged, "libforebear.so cannot be loaded"),
        (stale, "the C sources have changed since the build; install forebear again"),
        (gone, "libforebear.so is missing; install forebear again"),
        (without_record, "libforebear.json is missing; install forebear again"),
        (not_built, "there is no C compiler (cc); install gcc"),
        (garbled, "libforebear.json is damaged; install forebear again"),
        (of_no_level, "libforebear.json is damaged; install forebear again"),
    ],
)
def test_without_a_sound_library_training_goes_on_by_torch(
    damage: Any, said: str, package: Path
) -> None:
    damage(package)
    assert said in str(native.library())
    plain = forebear.create("paper/resnet20").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plain.train()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images = images.to(memory_format=torch.channels_last)
    wanted = plain(images)
    message = accelerate(plain)
    assert said in message
    assert "\n" not in message
    assert torch.allclose(plain(images), wanted, atol=1e-4)
    assert not has_winograd()


@is_built
def test_a_level_that_was_not_built_is_replaced_by_the_one_below(package: Path) -> None:
    record(package, levels=["generic"], left_out={"avx512_bf16": "cc failed: unknown flag"})
    found = native.library()
    assert isinstance(found, Library)
    assert found.level == "generic"
    assert "for generic; without avx512_bf16: cc failed: unknown flag" in built_by()


def test_a_torch_with_other_threads_has_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def pool() -> None:
        raise AttributeError("GOMP_parallel")

    monkeypatch.setattr(native, "_pool", pool)
    if "no C compiler" not in str(native.library()):
        assert native.library() == "torch does not use GNU's OpenMP"
