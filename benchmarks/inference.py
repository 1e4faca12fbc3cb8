"""Contests of inference: forebear's engines against their peers, starts of programs, folders.

    python benchmarks/inference.py [--only NAME ...] [--seconds 10]
    python benchmarks/inference.py --cold
    python benchmarks/inference.py --folder DIR [--images 800]

- Without a flag: seven networks with random weights, at batch 1 and 16, in fp32, and in bf16 where
  the processor multiplies it. forebear's engines take pixels; "auto" is the one that forebear
  chooses. The peers take normalised inputs, on the network as it is: eager torch (channels_last),
  torch.compile with frozen weights, ONNX Runtime, OpenVINO, timm's network of the same function,
  Keras' (XLA). In int8, ONNX Runtime and OpenVINO run graphs of their own tools, with the tools'
  defaults: quantize_static (per channel) and NNCF.
- --cold: whole programs, from the start of the process to its end.
- --folder: images per second from JPEGs on the disk.

Needs onnx, onnxruntime, openvino and nncf; timm and tensorflow if they are to be peers. The page
has a section for each kind of processor. A later run on the same kind replaces the networks that
it measured; results/inference_rows.json keeps the others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from inference_contenders import OURS, QUIET, Row, contest, normalising
from inference_programs import cold, folders
from step_speed import machine

from forebear.hardware import processor

RESULTS = Path(__file__).parent / "results" / "inference.md"
ROWS = RESULTS.with_name("inference_rows.json")  # what the contests measured
NETWORKS = (
    "slim/resnet_v1_50",
    "keras/ResNet50V2",
    "keras/ResNet50",
    "torchvision/resnet50",
    "torchvision/resnext50_32x4d",
    "torchvision/resnet18",
    "slim/alexnet_v2",
)
PEERS = ("torch", "compile", "onnxruntime", "openvino", "timm", "keras")
ENGINES = tuple(OURS + name for name in ("torch", "onnxruntime", "openvino"))
LIBRARIES = (
    "forebear", "torch", "onnxruntime", "openvino", "nncf", "timm", "tensorflow-cpu", "keras",
    "pillow", "numpy",
)  # fmt: skip
GOAL = 1.03  # of the time of the fastest peer
INTRODUCTION = """# Inference

One section for each kind of processor, as `forebear doctor` names its level. A level that
FOREBEAR_CPU forces has no section: only torch obeys it, while ONNX Runtime and OpenVINO use all
instructions of the processor.
"""


def best_peer(row: Row) -> str:
    """The peer with the lowest median, among those with the network's results."""
    there = [name for name in PEERS if name in row.times and name not in row.left_out]
    return min(there, key=lambda name: statistics.median(row.times[name]), default="")


def ratio(row: Row, unpaid: float = 0.0) -> float | None:
    """Time of forebear's choice over that of the best peer: median of the rounds' own ratios.

    `unpaid` is added to the peer's time: milliseconds per image that its normalisation takes.
    """
    best = best_peer(row)
    if not row.auto or not best:
        return None
    pairs = zip(row.times[row.auto], row.times[best], strict=True)
    return statistics.median(ours / (theirs + unpaid) for ours, theirs in pairs)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    cells = list(head)
    lines = [cells, ["---"] * len(cells), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def quantised(rows: list[Row]) -> list[str]:
    """The table of int8 against fp32, each by the engine that forebear chooses."""
    fastest = {
        (row.network, row.batch, row.precision): statistics.median(row.times[row.auto])
        for row in rows
        if row.auto
    }
    found = []
    for (network, batch, precision), int8 in fastest.items():
        fp32 = fastest.get((network, batch, "fp32"))
        if precision == "int8" and fp32 is not None:
            cells = (f"{fp32:.2f}", f"{int8:.2f}", f"{fp32 / int8:.2f}")
            found.append([network, str(batch), *cells])
    return table(("network", "batch", "fp32", "int8", "int8 is faster by"), found)


def medians(rows: list[Row], unpaid: float) -> list[str]:
    """The table of the contests."""
    found = []
    for row in rows:
        behind = ratio(row)
        times = [_median(row, name) for name in PEERS]
        verdict = ["no engine is exact enough", "", ""]
        if behind is not None:
            busy = " (busy)" if row.others > QUIET else ""
            equal = ratio(row, unpaid) or behind
            verdict = [f"{behind:.3f}", f"{equal:.3f}"]
            verdict.append(f"{'yes' if equal <= GOAL else 'no'}{busy}")
        auto = [_median(row, row.auto), row.auto.removeprefix(OURS)] if row.auto else ["", ""]
        found.append([row.network, str(row.batch), row.precision, *auto, *times, *verdict])
    head = ("network", "batch", "precision", "auto", "its engine", *PEERS, "auto / best peer")
    return table((*head, "both from pixels", f"at most {GOAL}"), found)


def ranges(rows: list[Row]) -> list[str]:
    """The table of medians with p10 to p90, forebear's engines beside the peers."""
    names = (*ENGINES, *PEERS)
    found = [
        [row.network, str(row.batch), row.precision, *(_range(row, name) for name in names)]
        for row in rows
    ]
    return table(("network", "batch", "precision", *names), found)


def _median(row: Row, name: str) -> str:
    if name not in row.times:
        return ""
    text = f"{statistics.median(row.times[name]):.2f}"
    if name in row.left_out:
        return f"({text})"
    return f"**{text}**" if name == best_peer(row) else text


def _range(row: Row, name: str) -> str:
    if name not in row.times:
        return ""
    low, middle, high = np.percentile(row.times[name], [10, 50, 90])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def exactness(rows: list[Row]) -> str:
    """How far the contenders' logits are from those of the network."""
    parts = []
    for precision in dict.fromkeys(row.precision for row in rows):
        some = [row for row in rows if row.precision == precision]
        ours = max(_largest(row, ENGINES) for row in some)
        theirs = max(_largest(row, PEERS) for row in some)
        parts.append(f"{ours:.1e} by forebear's engines and {theirs:.1e} by peers in {precision}")
    text = (
        f"Relative to the largest logit, logits differ from eager fp32 by up to {'; '.join(parts)}."
    )
    out = [
        f"{row.network}, batch {row.batch}, {row.precision}, {name}: {why}"
        for row in rows
        for name, why in row.left_out.items()
    ]
    return f"{text} Left out, in parentheses, for other results: {'; '.join(out) or 'none'}."


def _largest(row: Row, names: Iterable[str]) -> float:
    return max(row.differences.get(name, 0.0) for name in names)


def contests(names: list[str], seconds: float) -> Iterator[list[str]]:
    """The lines of the contests after each network, which has a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        unpaid = pool.submit(normalising).result()
        for name in names:
            yield contest_lines(kept(pool.submit(contest, name, seconds).result()), unpaid)


def kept(rows: list[Row]) -> list[Row]:
    """Keeps the rows of a network, and returns those of all networks on this kind of processor."""
    held = json.loads(ROWS.read_text(encoding="utf-8")) if ROWS.exists() else {}
    level = held.setdefault(processor().kind, {})
    level[rows[0].network] = [asdict(row) for row in rows]
    text = json.dumps(held, indent=None, separators=(",", ":"))
    ROWS.write_text(text.replace("},{", "},\n{") + "\n", encoding="utf-8")
    return [Row(**row) for name in NETWORKS for row in level.get(name, [])]


def contest_lines(rows: list[Row], unpaid: float) -> list[str]:
    behind = [one for one in map(ratio, rows) if one is not None]
    equal = [one for one in (ratio(row, unpaid) for row in rows) if one is not None]
    least = min(len(times) for row in rows for times in row.times.values())
    return [
        f"Milliseconds per image, medians of {least} or more interleaved rounds, the "
        "quietest ones of the machine; the best peer in bold. The ratio is the median of the "
        "rounds' ratios. forebear's engines take uint8 pixels. The peers take inputs that are "
        f"normalised already: with numpy, that takes another {unpaid:.2f} ms per image "
        'at 224 pixels. The column "both from pixels" adds that to the peers\' time. '
        f"{exactness(rows)}",
        "",
        f"With both from pixels, {sum(one <= GOAL for one in equal)} of {len(rows)} rows are at "
        f"most {GOAL}, and the geometric mean of the ratios is "
        f"{statistics.geometric_mean(equal):.3f}. Without, {sum(one <= GOAL for one in behind)} "
        f"rows are, and the mean is {statistics.geometric_mean(behind):.3f}. In rows marked "
        f"busy, other programs took more than {QUIET:.0%} of the cores, which makes the figures "
        f"uncertain: {sum(row.others > QUIET for row in rows)} rows, up to "
        f"{max(row.others for row in rows):.0%}.",
        "",
        *medians(rows, unpaid),
        "",
        "int8 against fp32, in milliseconds per image:",
        "",
        *quantised(rows),
        "",
        "Medians with p10 to p90, in milliseconds per image:",
        "",
        *ranges(rows),
    ]


def starts() -> list[str]:
    """The lines of the cold starts."""
    taken = cold()
    return [
        "Seconds from the start of a process to its end: ResNet-50, one JPEG of 500 x 500 pixels, "
        "files in the page cache, in interleaved rounds.",
        "",
        *table(
            ("program", "median", "range", "starts"),
            (
                [
                    f"`{name}`" if name.startswith("python") else name,
                    f"{statistics.median(times):.2f}",
                    f"{min(times):.2f} to {max(times):.2f}",
                    str(len(times)),
                ]
                for name, times in taken.items()
            ),
        ),
    ]


def ways(folder: Path, count: int) -> list[str]:
    """The lines of the folder."""
    taken = folders(folder, count)
    first = statistics.median(next(iter(taken.values())))
    return [
        f"Images per second, ResNet-18 in fp32, batch 16, a sample of {count:,} JPEGs of "
        "Imagenette, in interleaved rounds. The peer's time is that of its loop, without the start "
        "of its process and its imports; forebear's is that of the whole process.",
        "",
        *table(
            ("way", "median", "range", "forebear predict is faster by"),
            (
                [
                    name,
                    f"{statistics.median(rates):.1f}",
                    f"{min(rates):.1f} to {max(rates):.1f}",
                    f"{first / statistics.median(rates):.2f}",
                ]
                for name, rates in taken.items()
            ),
        ),
    ]


def versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            if name == "forebear":
                import forebear

                found.append(f"forebear {forebear.__version__}")
    return ", ".join(found)


def write(path: Path, part: str, lines: list[str]) -> None:
    """Replaces one part of this processor's section, and keeps all the others."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    sections: dict[str, dict[str, str]] = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        level, *parts = re.split(r"^### ", section, flags=re.MULTILINE)
        named = (one.partition("\n") for one in parts)
        sections[level.strip()] = {name: body.strip() for name, _, body in named}
    sections.setdefault(processor().kind, {})[part] = "\n".join(lines)
    out = [INTRODUCTION]
    for level, parts_of in sections.items():
        out.append(f"## {level}\n")
        out += [f"### {name}\n\n{body}\n" for name, body in sorted(parts_of.items())]
    path.write_text("\n".join(out), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each row")
    parser.add_argument("--cold", action="store_true", help="starts of programs instead")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="a folder of JPEGs instead")
    parser.add_argument("--images", type=int, default=800, help="of the folder (default: 800)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if os.environ.get("FOREBEAR_CPU"):
        raise SystemExit("FOREBEAR_CPU is set, which ONNX Runtime and OpenVINO ignore: unset it")
    started, before = time.perf_counter(), os.getloadavg()
    results: Iterable[list[str]]
    if args.cold:
        part, results = "Starts", [starts()]
    elif args.folder is not None:
        part, results = "A folder of JPEGs", [ways(args.folder, args.images)]
    else:
        part, results = "Batches", contests(args.only, args.seconds)
    words = " ".join("DIR" if word == str(args.folder) else word for word in sys.argv[1:])
    for lines in results:
        made = (
            f"`python {f'benchmarks/inference.py {words}'.strip()}` on {date.today():%Y-%m-%d}, in "
            f"{time.perf_counter() - started:.0f} s: {machine()}; {versions()}. Load average of "
            f"one minute: {before[0]:.2f} before, {os.getloadavg()[0]:.2f} after."
        )
        write(args.out, part, [made, "", *lines])
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
