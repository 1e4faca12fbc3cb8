"""Builds the C kernels with the package. All else about the package is in pyproject.toml.

One shared library holds the kernels of every level of processor, and forebear chooses among them at
run time, so that one wheel serves every machine of its architecture. Where the library cannot be
built, the install goes on without it, and libforebear.json says why.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

FOLDER = Path("src", "forebear", "network", "kernels")
EVERYWHERE = ("norm.c", "pool.c")
WITH_FMA = ("groups_fp32.c", "weight_fp32.c", "winograd_fp32.c")
WITH_BF16 = ("groups.c", "winograd.c")
FLAGS = ("-O3", "-fPIC", "-fvisibility=hidden", "-Wno-psabi", "-std=gnu11")
V3 = ("-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mf16c", "-mlzcnt", "-mmovbe")
AVX512 = (
    *V3,
    *("-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl"),
    "-mprefer-vector-width=512",
)
# gcc 12's generic tuning makes a step of ResNet-18 3 to 4 % slower on Zen 5.
BF16 = (*AVX512, "-mavx512bf16", "-mtune=znver3")
# Of each level of forebear/hardware.py, with "_" for "-": flags of the compiler, and sources.
LEVELS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {"generic": ((), EVERYWHERE)}
if platform.machine() in ("x86_64", "AMD64"):
    LEVELS |= {
        "x86_64_v3": (V3, (*EVERYWHERE, *WITH_FMA)),
        "avx512": (AVX512, (*EVERYWHERE, *WITH_FMA)),
        "avx512_bf16": (BF16, (*EVERYWHERE, *WITH_FMA, *WITH_BF16)),
    }


class BuildKernels(build_ext):
    """Compiles libforebear.so and writes libforebear.json, which says what was built."""

    def get_ext_filename(self, fullname: str) -> str:
        """The library has no Python in it, so its name has no version of Python."""
        return str(Path(*fullname.split("."))) + ".so"

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        record: dict[str, object] = {"sources": digest(*sorted(FOLDER.glob("*.[ch]")))}
        compiler = shlex.split(os.environ.get("CC") or "cc")
        try:
            built, left_out = build(compiler, target)
            record |= {"compiler": version(compiler), "levels": built, "library": digest(target)}
            if left_out:
                record["left_out"] = left_out
        except (OSError, subprocess.CalledProcessError) as error:
            record["error"] = reason(compiler, error)
            print(f"forebear: built without its C kernels: {record['error']}", file=sys.stderr)
        target.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")

    def copy_extensions_to_source(self) -> None:
        """For an editable install."""
        for ext in self.extensions:
            built = Path(self.build_lib, self.get_ext_filename(ext.name))
            for path in (built, built.with_suffix(".json")):
                (FOLDER / path.name).unlink(missing_ok=True)
                if path.is_file():
                    shutil.copy(path, FOLDER / path.name)


class Wheel(bdist_wheel):
    """A wheel that serves every Python 3 on its platform."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2] if self.distribution.ext_modules else "any"


def build(compiler: list[str], target: Path) -> tuple[list[str], dict[str, str]]:
    """Links the levels that the compiler knows; gives their names, and why others are left out."""
    built, left_out = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        objects: list[str] = []
        for level, (flags, sources) in LEVELS.items():
            made = []
            try:
                for source in sources:
                    made.append(str(Path(scratch, f"{level}-{source}.o")))
                    words = [*FLAGS, *flags, f"-DLEVEL={level}", "-c", str(FOLDER / source)]
                    run([*compiler, *words, "-o", made[-1]])
            except subprocess.CalledProcessError as error:
                if not built:
                    raise
                left_out[level] = reason(compiler, error)
                continue
            objects += made
            built.append(level)
        run([*compiler, "-shared", *objects, "-o", str(target), "-lm"])
    return built, left_out


def run(words: list[str]) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def version(compiler: list[str]) -> str:
    return run([*compiler, "--version"]).splitlines()[0]


def reason(compiler: list[str], error: Exception) -> str:
    """In one line, why a compiler gave nothing."""
    name = " ".join(compiler)
    if isinstance(error, FileNotFoundError):
        return f"there is no C compiler ({name}); install gcc or clang, then install forebear again"
    said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
    line = next((line for line in said if "error" in line), said[0] if said else "no reason given")
    return f"{name} failed: {line}"


def digest(*paths: Path) -> str:
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()


LINUX = sys.platform.startswith("linux")
setup(
    ext_modules=[
        Extension(
            "forebear.network.kernels.libforebear",
            sources=[str(FOLDER / name) for name in (*EVERYWHERE, *WITH_FMA, *WITH_BF16)],
            depends=[str(FOLDER / "common.h"), str(FOLDER / "fp32.h")],
        )
    ]
    if LINUX
    else [],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel},
)
