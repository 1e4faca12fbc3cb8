from __future__ import annotations

import os

import pytest
import torch

from forebear.tasks.machine.device import algorithms

GPU = torch.device("cuda")


def state() -> tuple[bool, bool, bool]:
    """Whether cuDNN tries what is fastest, whether it repeats, whether all of torch does."""
    cudnn = torch.backends.cudnn
    return cudnn.benchmark, cudnn.deterministic, torch.are_deterministic_algorithms_enabled()


@pytest.fixture(autouse=True)
def _workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "to be put back")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")


def test_a_gpu_computes_by_what_is_fastest_for_as_long_as_a_run_lasts() -> None:
    before = state()
    with algorithms(GPU, deterministic=False):
        assert state() == (True, False, False)
    assert state() == before == (False, False, False)


def test_a_gpu_computes_by_what_repeats_where_that_is_asked_for() -> None:
    with algorithms(GPU, deterministic=True):
        assert state() == (False, True, True)
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert state() == (False, False, False)
    assert not torch.is_deterministic_algorithms_warn_only_enabled()


def test_a_workspace_of_the_users_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with algorithms(GPU, deterministic=True):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.parametrize("deterministic", [True, False])
def test_on_a_processor_nothing_is_switched(*, deterministic: bool) -> None:
    before = state()
    with algorithms(torch.device("cpu"), deterministic=deterministic):
        assert state() == before
