from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from forebear import hardware
from forebear.cli.main import main
from forebear.hardware import (
    FORCE,
    LEVELS,
    Level,
    Processor,
    flags_of,
    has_vnni,
    level_of,
    name_of,
    processor,
)
from forebear.tasks.machine.device import fastest_dtype, find_precision

CPU = torch.device("cpu")
# Flags that Linux lists, cut to those that matter here.
HASWELL = "fpu sse4_2 abm avx avx2 bmi1 bmi2 f16c fma movbe"
SKYLAKE_X = f"{HASWELL} avx512f avx512dq avx512cd avx512bw avx512vl"
COOPER_LAKE = f"{SKYLAKE_X} avx512_vnni avx512_bf16"
SAPPHIRE_RAPIDS = f"{COOPER_LAKE} amx_bf16 amx_tile amx_int8"


def cpuinfo(flags: str, name: str = "A Processor") -> str:
    return f"processor\t: 0\nmodel name\t: {name}\nflags\t\t: {flags}\n\nprocessor\t: 1\n"


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Files of another machine's system, by path; no level is forced."""
    files: dict[str, str] = {}
    monkeypatch.setattr(hardware, "_read", lambda path: files.get(path, ""))
    monkeypatch.delenv(FORCE, raising=False)
    hardware._limited.cache_clear()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    return files


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    hardware._limited.cache_clear()


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ("fpu sse4_2 avx", "generic"),
        (HASWELL, "x86-64-v3"),
        (HASWELL.replace("fma", ""), "generic"),
        (SKYLAKE_X, "avx512"),
        (SKYLAKE_X.replace("avx512vl", ""), "x86-64-v3"),
        (COOPER_LAKE, "avx512-bf16"),
        (SAPPHIRE_RAPIDS, "avx512-bf16"),
    ],
)
def test_the_level_is_the_highest_whose_instructions_are_all_there(
    flags: str, level: Level
) -> None:
    assert level_of(flags_of(cpuinfo(flags))) == level


def test_a_processor_is_read_from_its_system(system: dict[str, str]) -> None:
    system["/proc/cpuinfo"] = cpuinfo(SAPPHIRE_RAPIDS, "Intel Xeon")
    system["/sys/fs/cgroup/cpu.max"] = "250000 100000\n"
    system["/sys/fs/cgroup/memory.max"] = "1048576\n"
    found = processor()
    assert (found.name, found.level, found.amx) == ("Intel Xeon", "avx512-bf16", True)
    assert (found.cores, found.memory) == (3, 1 << 20)
    assert found.key == "Intel Xeon (avx512-bf16 with AMX), 3 cores"
    hardware._limited.cache_clear()
    system.update({"/sys/fs/cgroup/cpu.max": "max 100000\n", "/sys/fs/cgroup/memory.max": "max\n"})
    assert processor().cores == 64
    assert processor().memory > 1 << 20


def test_a_system_that_tells_nothing_has_no_bf16(system: dict[str, str]) -> None:
    found = processor()
    assert found.name
    assert (found.level, found.bf16) == ("generic", False)
    assert flags_of("") == set()
    assert name_of("") == ""


@pytest.mark.parametrize(
    ("force", "level", "dtype"),
    [
        ("none", "none", torch.float32),
        ("generic", "generic", torch.float32),
        ("x86-64-v3", "x86-64-v3", torch.float32),
        ("avx512", "avx512", torch.float32),
        ("avx512-bf16", "avx512-bf16", torch.bfloat16),
        ("", "avx512-bf16", torch.bfloat16),
    ],
)
def test_every_level_can_be_forced_and_decides_the_precision(
    force: str,
    level: Level,
    dtype: torch.dtype,
    system: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system["/proc/cpuinfo"] = cpuinfo(SAPPHIRE_RAPIDS)
    monkeypatch.setenv(FORCE, force)
    assert processor().level == level
    assert fastest_dtype(CPU) == dtype
    assert find_precision("auto", CPU) == ("bf16" if dtype == torch.bfloat16 else "fp32")
    assert find_precision("bf16", CPU) == "bf16"  # what a user names is obeyed


@pytest.mark.parametrize(
    ("flags", "there"),
    [
        (SKYLAKE_X, False),
        (f"{SKYLAKE_X} avx512_vnni", True),
        ("avx2 avx_vnni", True),  # Alder Lake: no AVX-512
        ("", False),
    ],
)
def test_products_of_bytes_overflow_without_vnni(
    flags: str, there: bool, system: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    system["/proc/cpuinfo"] = cpuinfo(flags)
    monkeypatch.setenv(FORCE, "generic")  # the engines do not obey it
    assert has_vnni() == there


def test_a_lower_level_has_no_amx_either(
    system: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    system["/proc/cpuinfo"] = cpuinfo(SAPPHIRE_RAPIDS)
    assert processor().amx
    monkeypatch.setenv(FORCE, "avx512")
    assert not processor().amx


@pytest.mark.parametrize(
    ("force", "said"),
    [
        (
            "avx512",
            "FOREBEAR_CPU='avx512': this processor has no avx512. Expected x86-64-v3, generic, "
            "none. Unset FOREBEAR_CPU to use all that the processor has.",
        ),
        (
            "AVX2",
            "FOREBEAR_CPU='AVX2'. Expected x86-64-v3, generic, none. Unset FOREBEAR_CPU to use all "
            "that the processor has.",
        ),
    ],
)
def test_a_level_that_is_not_there_is_one_line(
    force: str,
    said: str,
    system: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    system["/proc/cpuinfo"] = cpuinfo(HASWELL)
    monkeypatch.setenv(FORCE, force)
    assert main(["train", "--data", "digits", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == f"forebear: {said}\n"
    assert not (tmp_path / "run").exists()


def test_this_machine_has_a_level() -> None:
    found = processor()
    assert isinstance(found, Processor)
    assert found.level in LEVELS
    assert found.cores >= 1
    assert found.memory > 0
