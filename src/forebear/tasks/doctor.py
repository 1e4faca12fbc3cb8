"""Reports what forebear finds on this machine: versions, CPU, kernels, GPUs, extras, caches."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from forebear.files import home
from forebear.hardware import Level, Processor, own_level, processor
from forebear.network.kernels.measured_choice import counts, kept
from forebear.network.kernels.status import Kernel, built_by, kernels
from forebear.tasks.machine.device import has_bf16
from forebear.version import __version__


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU that torch can use."""

    name: str
    memory: int  # bytes
    bf16: bool  # whether it multiplies bfloat16 natively


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """An optional part of forebear, and the packages that it needs."""

    name: str  # pip install 'forebear[NAME]'
    packages: tuple[tuple[str, str], ...]  # name and installed version, "" if missing

    @property
    def installed(self) -> bool:
        """Whether all of its packages are installed."""
        return all(version for _, version in self.packages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """A file or folder in FOREBEAR_HOME. Everything in it can be recreated or downloaded again."""

    path: Path
    size: int  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole report."""

    versions: tuple[tuple[str, str], ...]
    system: str
    processor: Processor
    own_level: Level  # of the processor, without regard to FOREBEAR_CPU
    torch_capability: str  # vector instructions that torch's own kernels use
    torch_threads: int
    precision: str  # that `--precision auto` selects on the CPU
    kernels: tuple[Kernel, ...]
    convolutions: Mapping[str, int]  # shapes measured in fp32, by the fastest way
    built_by: str  # compiler and levels of the kernels, "" if they were not built
    gpus: tuple[Gpu, ...]
    extras: tuple[Extra, ...]
    home: Path
    caches: tuple[Cache, ...]


def report() -> Report:
    """Inspects this machine.

    Raises:
        ValueError: FOREBEAR_CPU names no level, or one that this processor lacks.
    """
    return Report(
        versions=_versions(),
        system=platform.platform(),
        processor=processor(),
        own_level=own_level(),
        torch_capability=torch.backends.cpu.get_cpu_capability(),
        torch_threads=torch.get_num_threads(),
        precision="bf16" if has_bf16(torch.device("cpu")) else "fp32",
        kernels=kernels(),
        convolutions=counts(kept()),
        built_by=built_by(),
        gpus=tuple(_gpu(number) for number in range(torch.cuda.device_count())),
        extras=_extras(),
        home=home(),
        caches=tuple(Cache(path=path, size=_size(path)) for path in _entries(home())),
    )


def _versions() -> tuple[tuple[str, str], ...]:
    found = [("forebear", __version__), ("python", platform.python_version())]
    needs = (_requirement(line) for line in _requires())
    found += [(name, _version(name)) for name, extra in needs if not extra]
    return tuple(found)


def _gpu(number: int) -> Gpu:
    facts = torch.cuda.get_device_properties(number)
    device = torch.device("cuda", number)
    return Gpu(name=facts.name, memory=facts.total_memory, bf16=has_bf16(device))


def _extras() -> tuple[Extra, ...]:
    """Returns the extras of pyproject.toml that users install, each with its packages."""
    packages: dict[str, list[tuple[str, str]]] = {}
    for line in _requires():
        name, extra = _requirement(line)
        if extra and name != "forebear" and extra not in ("dev", "peers"):
            packages.setdefault(extra, []).append((name, _version(name)))
    return tuple(Extra(name=name, packages=tuple(found)) for name, found in packages.items())


def _requires() -> list[str]:
    """Returns lines such as "matplotlib>=3.10; extra == 'plots'"; none if not installed."""
    try:
        return metadata.requires("forebear") or []
    except metadata.PackageNotFoundError:  # run from a source tree
        return []


def _requirement(line: str) -> tuple[str, str]:
    """Returns the package of a requirement, and the extra that needs it, or ""."""
    name = re.match(r"[\w.-]+", line)
    extra = re.search(r"""extra == ['"]([\w-]+)['"]""", line)
    return name[0] if name else line, extra[1] if extra else ""


def _version(name: str) -> str:
    """Returns the installed version of a package, or ""; that of torch names its build too."""
    if name == "torch":
        return torch.__version__  # such as 2.13.0+cu130; its metadata may say 2.13.0 only
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # nothing is cached yet
        return []


def _size(path: Path) -> int:
    """Returns the bytes of a file, or of all files below a folder, without following links."""
    if path.is_dir() and not path.is_symlink():
        return sum(_size(entry) for entry in _entries(path))
    try:
        return path.lstat().st_size
    except OSError:  # deleted in the meantime
        return 0
