"""Measures forebear serve on loopback: requests per second and their times.

python benchmarks/serving.py WEIGHTS IMAGE [--requests 10000] [--clients 16] [--out FILE]

Each client is a thread that sends one request after the other over a connection that stays open.
The server runs in a process of its own, on the same cores. With and without micro-batches.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forebear.hardware import processor

RESULTS = Path(__file__).parent / "results" / "serving.md"


@contextmanager
def server(weights: Path, *words: str) -> Iterator[int]:
    """Runs the server, and gives its port."""
    command = [sys.executable, "-m", "forebear", "serve", str(weights), "--port", "0", *words]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    for line in child.stderr:
        print(line, end="", file=sys.stderr)
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if found:
            break
    else:
        raise SystemExit("the server did not start")
    port = int(found[1])
    time.sleep(1)
    try:
        yield port
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait()


def ask(port: int, image: bytes, count: int, times: list[float], wrong: list[str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for _ in range(count):
        begun = time.perf_counter()
        connection.request("POST", "/predict?top=1", image)
        answer = connection.getresponse()
        body = answer.read()
        times.append(time.perf_counter() - begun)
        if answer.status != 200 or "class" not in json.loads(body)[0]:
            wrong.append(f"{answer.status}: {body[:100]!r}")
    connection.close()


def load(port: int, image: bytes, requests: int, clients: int) -> str:
    """Sends requests, and returns the cells of a row."""
    times: list[float] = []
    wrong: list[str] = []
    ask(port, image, 20, [], wrong)
    threads = [
        threading.Thread(target=ask, args=(port, image, requests // clients, times, wrong))
        for _ in range(clients)
    ]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - begun
    cuts = statistics.quantiles(times, n=100)
    return (
        f"{len(times):,} | {len(wrong)} | {len(times) / taken:,.0f} | {1e3 * cuts[49]:.1f} | "
        f"{1e3 * cuts[98]:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--what", default="", help="of the weights, for the page")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    image = args.image.read_bytes()
    rows = []
    for name, words in (
        (f"batches of up to 16, 5 ms, {args.clients} clients", ("--batch", "16")),
        (f"one image at a time, {args.clients} clients", ("--batch", "1", "--delay-ms", "0")),
    ):
        with server(args.weights, *words) as port:
            cells = load(port, image, args.requests, args.clients)
            rows.append(f"| {name} | {cells} |")
            print(rows[-1], file=sys.stderr)
    with server(args.weights, "--batch", "1", "--delay-ms", "0") as port:
        rows.append(f"| one image at a time, 1 client | {load(port, image, 1000, 1)} |")
    chip = processor()
    text = "\n".join(
        [
            "# Figures",
            "",
            f"`python benchmarks/serving.py` on {chip.cores} cores of {chip}, "
            f"clients on the same cores: {args.what}; a JPEG of {len(image) / 1e3:.0f} kB. "
            f"Load before: {os.getloadavg()[0]:.1f}.",
            "",
            "| server | requests | errors | requests/s | p50, ms | p99, ms |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
            *rows,
        ]
    )
    args.out.write_text(f"{text}\n")
    print(text)


if __name__ == "__main__":
    main()
