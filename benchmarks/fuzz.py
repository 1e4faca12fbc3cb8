"""Searches for bytes that a parser does not read rightly or refuse by name, guided by coverage.

python benchmarks/fuzz.py TARGET... [--seconds 30] [--corpus build/fuzz] [--finds tests/fuzz_finds]

The targets, and what must hold of them, are in tests/fuzzing.py; "all" stands for every one. The
fuzzer is atheris (pip install atheris), which runs libFuzzer on Python: it needs Linux. Each target
runs in a process of its own with at most 3 GB more address space than it starts with. A find does
not end the search: the first input of each kind is made smaller and written to FINDS/TARGET. What
kills the process, or hangs for 20 s, is written there as it is. CORPUS/TARGET keeps every input
that reached new code, so that a later search goes on from there.

The last line for each target has its executions, seconds, corpus and finds.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import itertools
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import atheris

REPOSITORY = Path(__file__).parents[1]
MOST_BYTES = 8_192  # of an input, or as the longest seed
FIND_BYTES = 4_000  # of a find that is kept as a test
ADDRESS_SPACE = 3 * 2**30  # bytes in addition to what the imports take
SHRINKING = 10  # seconds to make a find smaller
HANG = 20  # seconds
WORDS = 200  # of the dictionary

sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "src")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="+", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=30, help="of the processor, for each target")
    parser.add_argument("--corpus", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--finds", type=Path, default=REPOSITORY / "tests" / "fuzz_finds")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    fuzzing = _instrumented()
    names = list(fuzzing.TARGETS) if args.targets == ["all"] else args.targets
    for name in names:
        if name not in fuzzing.TARGETS:
            sys.exit(f"target {name!r} is unknown. Expected one of {', '.join(fuzzing.TARGETS)}.")
    for name in names:
        for folder in (args.corpus / name, args.finds / name):
            folder.mkdir(parents=True, exist_ok=True)
        print(_supervised(name, args), flush=True)


def _instrumented() -> Any:
    """Imports the targets with all that they import, so that each branch is counted."""
    libraries = ["forebear", "zipfile", "tarfile", "tomllib", "pickle", "pickletools", "gzip"]
    with atheris.instrument_imports(include=libraries):
        fuzzing = importlib.import_module("tests.fuzzing")
        for verb in ("list", "describe", "recipes", "compare", "check"):
            importlib.import_module(f"forebear.cli.{verb}")
        for late in ("network.network", "weights.load", "data.images.preprocess"):
            importlib.import_module(f"forebear.{late}")
    return fuzzing


def _supervised(name: str, args: argparse.Namespace) -> str:
    """Searches in forked processes, as some finds end one; returns a line of figures."""
    runs, text = 0, ""
    used = 0.0
    while (left := int(args.seconds - used)) > 0:
        with tempfile.TemporaryFile("w+", errors="replace") as log:
            if (child := os.fork()) == 0:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                _search(name, args, left)
            _, code, usage = os.wait4(child, 0)
            status, used = os.waitstatus_to_exitcode(code), used + usage.ru_utime + usage.ru_stime
            log.seek(0)
            text = log.read()
        runs += max(map(int, re.findall(r"^(?:#|Done )(\d+)", text, re.M)), default=0)
        for line in re.findall(r"^find: .*", text, re.M):
            print(f"{name}: {line}", flush=True)
        if status == 0:
            break
        print(f"{name}: the process ended with {status}: {_reason(text)}", flush=True)
    seconds, edges = f"{used:.0f} s", (re.findall(r"cov: (\d+)", text) or ["?"])[-1]
    corpus, finds = (len(list((folder / name).iterdir())) for folder in (args.corpus, args.finds))
    return f"{name}: {runs:,} runs, {seconds}, {edges} edges, {corpus} inputs, {finds} finds"


def _reason(text: str) -> str:
    found = re.findall(r"^.*(?:ERROR|Error|SUMMARY|Fatal).*$", text, re.M)
    return found[0].strip() if found else text.strip().rpartition("\n")[2]


def _search(name: str, args: argparse.Namespace, seconds: int) -> NoReturn:
    """Runs libFuzzer in this process, which ends it."""
    from tests import fuzz_seeds, fuzzing

    corpus, finds = args.corpus / name, args.finds / name
    seeds = fuzz_seeds.seeds()[name]
    for seed in seeds:
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    base = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=base))
    known: set[str] = set()
    end = time.process_time() + seconds

    runs = itertools.count()

    def once(data: bytes) -> None:
        run = next(runs)
        if time.process_time() > end:
            print(f"Done {run}", flush=True)
            shutil.rmtree(folder)
            os._exit(0)  # libFuzzer counts only seconds of the clock
        found = fuzzing.fault(name, data, folder / "x")
        if found is None or found in known:
            return
        known.add(found)
        small = _shrunk(data, lambda one: fuzzing.fault(name, one, folder / "x") == found)
        path = finds / f"{re.sub(r'[^A-Za-z0-9]+', '-', found).strip('-').lower()}.bin"
        path.write_bytes(small)
        print(f"find: {found} ({len(small)} bytes, {path.name})", flush=True)

    _limit()
    words = folder / "words"
    words.write_text(_dictionary(seeds))
    longest = max(MOST_BYTES, *map(len, seeds))
    options = [f"-max_len={longest}", f"-timeout={HANG}"]
    options += ["-rss_limit_mb=0", f"-artifact_prefix={finds}/ended-", f"-dict={words}"]
    with fuzzing.without_checksums():
        atheris.Setup([sys.argv[0], *options, str(corpus)], once)
        atheris.Fuzz()
    sys.exit(0)


def _limit() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = used + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _shrunk(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """Returns the shortest input found that fails in the same way, by leaving out pieces."""
    end = time.monotonic() + SHRINKING
    size = len(data) // 2
    while size >= 1:
        start = 0
        while start < len(data):
            if time.monotonic() > end:
                return data
            less = data[:start] + data[start + size :]
            if fails(less):
                data = less
            else:
                start += size
        size //= 2
    return data


def _dictionary(seeds: list[bytes]) -> str:
    """Returns libFuzzer's dictionary: the words in the seeds, and values that trip parsers."""
    found = {word for seed in seeds for word in re.findall(rb"[A-Za-z_][\w./-]{2,30}", seed)}
    odd = [b"NaN", b"Infinity", b"1e999", b"-1", b"null", b"true", b"{}", b"[]", b"\n"]
    odd += [b"[" * 70, b"9" * 30, b"\\ud800", b"\\u0000", b"\x1b[31m", b"\xff" * 8, b"\x00" * 8]
    words = ["".join(f"\\x{byte:02x}" for byte in word) for word in (*odd, *sorted(found)[:WORDS])]
    return "".join(f'"{word}"\n' for word in words)


if __name__ == "__main__":
    main()
