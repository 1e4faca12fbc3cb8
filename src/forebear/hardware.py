"""What the processor can do: every choice of dtype, kernel and thread count asks this module.

Importing it needs no torch. `forebear.tasks.machine.device` asks torch about GPUs.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

Level = Literal["none", "generic", "x86-64-v3", "avx512", "avx512-bf16"]
LEVELS: tuple[Level, ...] = get_args(Level)  # rising: each can do what those before it can
FORCE = "FOREBEAR_CPU"  # the environment variable that forces a lower level

# Flags of /proc/cpuinfo. x86-64-v3: x86-64 psABI 1.0, table 3.1; Linux writes abm for LZCNT.
_V3 = {"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm"}
_AVX512 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_NEEDS: dict[Level, set[str]] = {
    "avx512-bf16": _AVX512 | {"avx512_bf16"},
    "avx512": _AVX512,
    "x86-64-v3": _V3,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """What this process may use of the machine's processor."""

    name: str  # as the system has it, such as "AMD EPYC 9R45"
    architecture: str  # such as "x86_64" or "aarch64"
    level: Level  # of the kernels that may run
    amx: bool  # whether it has AMX tiles for bfloat16
    cores: int  # that this process may use: its affinity, and the limit of its container
    memory: int  # bytes of the machine, or the limit of its container; 0: not known

    @property
    def bf16(self) -> bool:
        """Whether it multiplies bfloat16 natively. Elsewhere float32 is many times faster."""
        return self.level == "avx512-bf16" or self.amx

    @property
    def kind(self) -> str:
        """The level, such as "avx512-bf16 with AMX": AMX makes bfloat16 several times faster."""
        return f"{self.level} with AMX" if self.amx else self.level

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"

    @property
    def key(self) -> str:
        """Names the machine in a cache of timings: equal keys, equal speed."""
        return f"{self}, {self.cores} cores"


def processor() -> Processor:
    """The processor at the level that FOREBEAR_CPU allows; without it, at its own level.

    Raises:
        ValueError: FOREBEAR_CPU names no level, or one that this processor lacks.
    """
    return _limited(os.environ.get(FORCE, ""))


def own_level() -> Level:
    """The level of the processor, whatever FOREBEAR_CPU says."""
    return level_of(flags_of(_read("/proc/cpuinfo")))


def has_vnni() -> bool:
    """Whether the processor sums products of 8-bit numbers in 32 bits, whatever FOREBEAR_CPU says.

    Without VNNI, an engine adds two such products in 16 bits, which can overflow.
    """
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags_of(_read("/proc/cpuinfo")))


@lru_cache(maxsize=8)
def _limited(force: str) -> Processor:
    text = _read("/proc/cpuinfo")
    own = level_of(flags_of(text))
    level = _forced(force, own) if force else own
    return Processor(
        name=name_of(text) or platform.processor() or platform.machine(),
        architecture=platform.machine(),
        level=level,
        amx=level == own and "amx_bf16" in flags_of(text),
        cores=_cores(),
        memory=_memory(),
    )


def _forced(force: str, own: Level) -> Level:
    there = LEVELS[: LEVELS.index(own) + 1]
    for level in there:
        if level == force:
            return level
    what = f"{FORCE}={force!r}"
    if force in LEVELS:
        what += f": this processor has no {force}"
    raise ValueError(
        f"{what}. Expected {', '.join(reversed(there))}. "
        f"Unset {FORCE} to use all that the processor has."
    )


def level_of(flags: set[str]) -> Level:
    """The highest level whose instructions are all among the flags of /proc/cpuinfo."""
    return next((level for level, needs in _NEEDS.items() if needs <= flags), "generic")


def flags_of(cpuinfo: str) -> set[str]:
    """The instruction sets that a text in the form of Linux's /proc/cpuinfo lists."""
    found = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    return set(found[1].split()) if found else set()


def name_of(cpuinfo: str) -> str:
    """The processor's name in such a text, or "" where it has none."""
    found = re.search(r"^model name\s*:(.*)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else ""


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, min(allowed, _container_cores(_read("/sys/fs/cgroup/cpu.max")) or allowed))


def _container_cores(text: str) -> int:
    """Cores that a container may use, rounded up; 0 where there is no limit.

    The file says how many microseconds of each period all processes may compute: "200000 100000"
    (Linux, Documentation/admin-guide/cgroup-v2.rst).
    """
    found = re.fullmatch(r"(\d+) (\d+)\s*", text)
    return -(-int(found[1]) // int(found[2])) if found and int(found[2]) else 0


def _memory() -> int:
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has none of these names
        return 0
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    return min(whole, int(limit)) if limit.isdigit() else whole


def _read(path: str) -> str:
    """A small text file of the system; "" where there is none."""
    if not sys.platform.startswith("linux"):
        return ""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
