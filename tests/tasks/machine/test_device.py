from __future__ import annotations

import os
import resource
import sys

import pytest
import torch

from forebear.hardware import processor
from forebear.tasks.machine.device import algorithms, device_name, peak_bytes, peak_memory

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


def test_the_peak_is_that_of_the_gpu_s_tensors_or_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**20)
    assert peak_bytes(GPU) == 3 * 2**20
    assert peak_memory(GPU) == 3.0
    cpu = torch.device("cpu")
    told = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bytes_each = 1 if sys.platform == "darwin" else 1024
    assert (peak_bytes(cpu) or 0) >= bytes_each * told > 2**20
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert peak_bytes(cpu) is None
    assert peak_memory(cpu) == 0.0


def test_a_device_has_the_name_of_its_gpu_or_of_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a GPU, {device}")
    assert device_name(GPU) == "a GPU, cuda"
    assert device_name(torch.device("cpu")) == str(processor())
