"""The package builds its kernels, and installs without them where it cannot."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMPILER = shutil.which(os.environ.get("CC") or "cc")


def build(folder: Path, compiler: str) -> tuple[dict[str, Any], str, Path]:
    """What libforebear.json says, what was printed, and where the library would lie."""
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(folder)],
        cwd=ROOT,
        env={**os.environ, "CC": compiler},
        capture_output=True,
        text=True,
        check=True,
    )
    made = folder / "forebear" / "network" / "kernels"
    return json.loads((made / "libforebear.json").read_text()), done.stderr, made / "libforebear.so"


def test_without_a_compiler_the_install_goes_on_and_says_what_is_missing(tmp_path: Path) -> None:
    record, said, library = build(tmp_path, "no-such-compiler")
    reason = (
        "there is no C compiler (no-such-compiler); install gcc or clang, then install forebear "
        "again"
    )
    assert record["error"] == reason
    assert f"forebear: built without its C kernels: {reason}\n" in said
    assert not library.exists()


def test_a_compiler_that_fails_is_named(tmp_path: Path) -> None:
    record, _, library = build(tmp_path, "false")
    assert record["error"].startswith("false failed: ")
    assert not library.exists()


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
def test_a_compiler_that_lacks_a_level_builds_the_others(tmp_path: Path) -> None:
    script = tmp_path / "old-cc"
    script.write_text(
        "#!/bin/sh\n"
        'case "$*" in *-mavx512bf16*) echo "error: no -mavx512bf16" >&2; exit 1;; esac\n'
        f'exec {COMPILER} "$@"\n'
    )
    script.chmod(0o755)
    record, _, library = build(tmp_path, str(script))
    assert library.is_file()
    if platform.machine() == "x86_64":
        assert record["levels"] == ["generic", "x86_64_v3", "avx512"]
        assert record["left_out"]["avx512_bf16"].endswith("error: no -mavx512bf16")
