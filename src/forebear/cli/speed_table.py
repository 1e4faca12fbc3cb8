"""A comparison of speeds as lines, as data and as a plot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.cli.text_table import columns

if TYPE_CHECKING:
    from forebear.tasks.compare_speed import Comparison, Contender

_PASSES = {"forward": 1, "forward-backward": 3}  # a backward pass has two products for each
# The memory of a contender: by how much the peak grew while it was made and warmed up.
_MEMORY = {"cpu": "growth of process peak memory", "cuda": "growth of GPU peak memory"}


def lines(found: Comparison) -> Iterator[str]:
    """Yields a heading, a row for each contender, and the shares of the blocks."""
    yield (
        f"{found.network}, {found.what}, batch {found.batch}, {found.size} x {found.width} pixels, "
        f"{_precision(found)} on {found.device_name}, "
        f"{found.multiply_adds / 1e9:.3f} G multiply-adds per image, peak of a matrix product "
        f"{2 * found.peak / 1e9:,.0f} GFLOP/s"
    )
    head = ("", "ms per image", "p10", "p90", "ratio", "95 % interval", "GFLOP/s", "of peak")
    rows: list[tuple[str, ...]] = [(*head, _MEMORY[found.device], "warm-up")]
    for one in found.contenders:
        ratio, low, high = found.ratio(one)
        rate = _rate(found, one)
        rows.append(
            (
                one.name,
                *(f"{1e3 * one.quantile(at) / found.batch:.3g}" for at in (0.5, 0.1, 0.9)),
                f"{ratio:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{2 * rate / 1e9:,.0f}",
                f"{rate / found.peak:.0%}",
                f"{one.memory / 2**20:,.0f} MiB",
                str(one.warm_up),
            )
        )
    yield from columns(rows, "<>>>>>>>>>")
    if found.blocks:
        shares = ", ".join(f"{part} {share:.0%}" for part, share in found.blocks)
        yield f"time of the parts, eager: {shares}"
    yield ""


def _precision(found: Comparison) -> str:
    without = found.device == "cuda" and found.precision == "fp32"
    return "fp32 without TF32" if without else found.precision


def _rate(found: Comparison, one: Contender) -> float:
    """Returns the multiply-adds per second."""
    return _PASSES[found.what] * found.multiply_adds * found.batch / one.quantile(0.5)


def as_dict(found: Comparison) -> dict[str, Any]:
    """Returns a comparison as data for JSON."""
    data = asdict(found)
    for one, row in zip(found.contenders, data["contenders"], strict=True):
        ratio, low, high = found.ratio(one)
        row |= {
            "median": one.quantile(0.5),
            "p10": one.quantile(0.1),
            "p90": one.quantile(0.9),
            "ratio": ratio,
            "ratio_interval": [low, high],
            "gflops": 2 * _rate(found, one) / 1e9,
            "of_peak": _rate(found, one) / found.peak,
        }
    return data


def draw(found: Sequence[Comparison], path: Path) -> None:
    """Draws the milliseconds per image of all contenders, with p10 to p90.

    Raises:
        ValueError: matplotlib is missing.
    """
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(
            "--plot: matplotlib is not installed. Expected the library that draws. Run pip install "
            "'forebear[plots]'."
        )
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1 + 0.35 * sum(len(one.contenders) + 1 for one in found)))
    axes = figure.subplots()
    labels, place = [], 0
    for one in found:
        for row in one.contenders:
            low, middle, high = (1e3 * row.quantile(at) / one.batch for at in (0.1, 0.5, 0.9))
            axes.barh(place, middle, xerr=[[middle - low], [high - middle]], color="C0")
            labels.append((place, f"{one.network}, {one.what}, batch {one.batch}: {row.name}"))
            place += 1
        place += 1
    axes.set_yticks([at for at, _ in labels], [text for _, text in labels])
    axes.invert_yaxis()
    axes.set_xlabel("ms per image: median, p10 to p90")
    figure.savefig(path, bbox_inches="tight", dpi=120)
