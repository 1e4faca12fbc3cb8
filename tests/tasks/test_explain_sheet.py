"""The sheet of an image: its size, its colours and its words."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forebear.errors import ForebearError
from forebear.tasks.explain import Explanation, Method
from forebear.tasks.explain_sheet import Tile, check_matplotlib, draw_explanations

pytest.importorskip("matplotlib")
SIDE = 32


def explanation(method: Method = "grad-cam", **fields: object) -> Explanation:
    """One whose map is 1 on the upper half, and for occlusion -1 on the lower half."""
    values = np.zeros((SIDE, SIDE), np.float32)
    values[: SIDE // 2] = 1
    if method == "occlusion":
        values[SIDE // 2 :] = -1
    given: dict[str, object] = {
        "method": method,
        "end_point": "block4" if method == "grad-cam" else "",
        "window": 0 if method == "grad-cam" else 6,
        "map": values,
        "pixels": np.full((SIDE, SIDE, 3), 100, np.uint8),
        "probabilities": np.array([0.25, 0.75], np.float32),
        "number": 1,
        "names": ("cat", "dog"),
        **fields,
    }
    return Explanation(**given)  # type: ignore[arg-type]


def drawn(path: Path, *found: Explanation, tiles: int = 0, name: str = "a.jpg") -> np.ndarray:
    tile = Tile(
        pixels=np.full((SIDE, SIDE, 3), (0, 200, 0), np.uint8), class_name="dog", similarity=0.5
    )
    draw_explanations(found, path, image=name, tiles=[tile] * tiles, heading="nearest")
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def words(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are written from now on."""
    from matplotlib.figure import Figure

    said: list[str] = []
    plain = Figure.text

    def text(self: Figure, x: float, y: float, line: str, **options: object) -> object:
        said.append(line)
        assert 0 <= x < 1
        assert 0 < y < 1
        return plain(self, x, y, line, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "text", text)
    return said


def test_red_speaks_for_the_class_and_blue_against_it(tmp_path: Path) -> None:
    sheet = drawn(tmp_path / "a.png", explanation(), explanation("occlusion"))
    middle = 148 + 320 // 2
    above, below = sheet[middle - 80], sheet[middle + 80]
    at = [24 + n * 336 + 160 for n in range(3)]
    assert above[at[0]].tolist() == below[at[0]].tolist() == [100, 100, 100]
    for column in at[1:]:
        red, green, blue = above[column]
        assert red > green + 40
        assert red > blue + 40
    assert len(set(below[at[1]])) == 1  # grey: Grad-CAM has nothing here
    red, green, blue = below[at[2]]
    assert blue > red + 40


def test_more_maps_and_neighbours_take_more_room(tmp_path: Path) -> None:
    one = drawn(tmp_path / "a.png", explanation()).shape
    two = drawn(tmp_path / "a.png", explanation(), explanation("occlusion")).shape
    more = [drawn(tmp_path / "a.png", explanation(), tiles=count).shape[0] for count in (1, 6, 7)]
    assert one[0] == two[0] < more[0] == more[1] < more[2]
    assert one[1] < two[1]
    green = (drawn(tmp_path / "a.png", explanation(), tiles=7) == (0, 200, 0)).all(2)
    assert green.sum() == pytest.approx(7 * 150 * 150, rel=0.03)


def test_the_title_says_what_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = words(monkeypatch)
    drawn(tmp_path / "a.png", explanation(), explanation("occlusion"), tiles=1)
    assert said[0] == "dog, 75.0% (the prediction)"
    assert said[1] == "a.jpg"
    assert said[2].startswith("Red places speak for dog, blue ones against it")
    assert said[3].startswith("Occlusion hides squares one at a time: the probability falls")
    assert said[4:7] == [
        "what the network sees, 32 x 32 pixels",
        "Grad-CAM at block4",
        "occlusion, 6 px: falls by up to 100.0",
    ]
    assert said[-3:] == ["nearest", "dog", "similarity 0.500"]
    said.clear()
    drawn(tmp_path / "a.png", explanation(number=0, map=np.zeros((SIDE, SIDE), np.float32)))
    assert said[0] == "cat, 25.0% (the prediction is dog, 75.0%)"
    assert "Grad-CAM at block4, nothing speaks for it" in said
    assert not any("Occlusion" in line for line in said)


@pytest.mark.long
def test_long_and_strange_names_stay_on_the_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = words(monkeypatch)
    long = r"$\frac$" + "W" * 600
    sheet = drawn(
        tmp_path / "a.png",
        explanation(names=("a", long), end_point="block4." + "unit_" * 40),
        tiles=2,
        name=f"\x1b[31m日本{long}.jpg",
    )
    assert sheet.shape == drawn(tmp_path / "b.png", explanation(), tiles=2).shape
    assert (sheet[:, -20:] == 255).all()  # the margin
    assert (sheet[124:148, 344:360] == 255).all()  # between the titles of two panels
    assert all(line.isprintable() for line in said)
    assert sum("…" in line for line in said) >= 4


def test_greyscale_and_tiny_probabilities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = words(monkeypatch)
    grey = np.full((SIDE, SIDE, 1), 100, np.uint8)
    small = np.array([1 - 2e-7, 2e-7], np.float32)
    values = np.full((SIDE, SIDE), 1e-8, np.float32)
    sheet = drawn(
        tmp_path / "a.png",
        explanation("occlusion", pixels=grey, probabilities=small, map=values),
    )
    assert sheet[300, 184].tolist() == [100, 100, 100]
    assert said[0] == "dog, 2.0e-07 (the prediction is cat, 100.0%)"
    assert "occlusion, 6 px: falls by up to 1e-06" in said
    said.clear()
    against = explanation("occlusion", map=-np.full((SIDE, SIDE), 0.25, np.float32))
    drawn(tmp_path / "a.png", against)
    assert "occlusion, 6 px: rises by up to 25.0" in said


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    message = (
        r"matplotlib cannot be imported \(.*\)\. Expected the library that draws\. "
        r"Run: pip install 'forebear\[explain\]'"
    )
    with pytest.raises(ForebearError, match=message):
        check_matplotlib()
