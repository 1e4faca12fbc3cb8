"""Exactness: our networks on the homes' weights against what the homes computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.goldens import cases

# In training mode the homes' own float32 lies 4.7e-5 from the same network in float64 (measured on
# slim_tiny_v2__train_48x80): norms over maps of 2x3 values magnify the rounding.
END_POINTS, END_POINTS_IN_TRAINING, MOVED = 1e-5, 3e-5, 3e-6
HERE = {path.name: path for path in cases.files(cases.HERE)}
WHOLE = {path.name: path for path in cases.files(cases.SHARED)}
FILES = sorted((HERE | WHOLE).values(), key=lambda path: path.name)


def _marked(path: Path) -> object:
    full = "tiny" not in path.name and "cifar" not in path.name
    return pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if full else [])


@pytest.fixture(scope="module")
def table() -> object:
    rows: list[str] = []
    yield rows
    print("\nfile, largest differences of logits, end points, moving averages, end points scaled")
    print("\n".join(rows))


@pytest.mark.parametrize("path", [_marked(path) for path in FILES])
@pytest.mark.long(after=9)
def test_the_original_numbers_come_out(path: Path, table: list[str]) -> None:
    case = cases.read(path)
    found = cases.differences(case)
    table.append(f"{case.name:<45} " + " ".join(f"{value:8.1e}" for value in found.values()))
    assert found["logits"] <= case.tolerance
    assert found["scaled"] <= (END_POINTS_IN_TRAINING if case.training else END_POINTS)
    assert found["moved"] <= MOVED


def test_the_goldens_here_cover_every_home() -> None:
    homes = {name.partition("_")[0] for name in HERE}
    assert homes == {
        "cifar",
        "keras",
        "keras2",
        "keras3",
        "kerasapps",
        "slim",
        "timm",
        "torchvision",
    }
    assert sum(path.stat().st_size for path in HERE.values()) < 2e6


@pytest.mark.parametrize(
    ("stem", "answer", "wrong", "at_least"),
    [
        ("slim_tiny_v1__eval_48x80_osNone", "pool_padding", "explicit", 1e-3),
        ("slim_tiny_v1__eval_48x80_osNone", "strided_unit", "first", 1e-3),
        ("slim_tiny_v1__eval_48x80_osNone", "norm_eps", 1.001e-5, 1e-5),
        ("keras3_tiny_v2__eval_32x32", "pool_fill", "lowest", 1e-4),
        ("keras3_tiny_v1__train_32x32", "norm_variance", "unbiased", 1e-5),
        ("slim_tiny_v2__train_48x80", "norm_decay", 0.99, 1e-3),
    ],
)
def test_a_wrong_answer_of_the_dialect_shows(
    stem: str, answer: str, wrong: object, at_least: float
) -> None:
    found = cases.differences(cases.read(cases.HERE / f"{stem}.npz", answer, wrong))
    assert max(found.values()) > at_least
