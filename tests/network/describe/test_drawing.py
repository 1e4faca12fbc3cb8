"""Drawings: what they show, that nothing overlaps, and what they refuse."""

from __future__ import annotations

import re
import sys
from itertools import combinations
from pathlib import Path

import pytest

from forebear.errors import ForebearError
from forebear.network.describe.describe import report
from forebear.network.describe.drawing import draw, figure
from forebear.network.plan.expand import expand
from forebear.tables.dialects import SLIM_V2
from forebear.tables.rows import Block, Conv, Table
from tests.network.describe.making import reported, svg

MANY_BLOCKS = Table(
    "many_$blocks",
    root=(Conv("conv1", 32, 3),),
    blocks=tuple(Block(f"block{n}", n, 64, 128 * n, stride=1 + n % 2) for n in range(1, 13)),
    image_size=128,
)


def ids(text: str, kind: str) -> list[str]:
    return re.findall(rf'id="{kind} ([\w.]+)"', text)


def test_every_unit_is_a_box_and_every_shortcut_an_arc(tmp_path: Path) -> None:
    text = svg(reported("slim/resnet_v1_50"), tmp_path)
    units = [f"block{b}.unit_{u}" for b, n in enumerate((3, 4, 6, 3), 1) for u in range(1, n + 1)]
    assert [path for path in ids(text, "box") if "unit" in path] == units
    assert ids(text, "projection") == [f"block{b}.unit_1" for b in (1, 2, 3, 4)]
    assert ids(text, "identity") == [path for path in units if not path.endswith("unit_1")]
    strided = ["root.conv1", "root.pool1", "block1.unit_3", "block2.unit_4", "block3.unit_6"]
    assert ids(text, "stride") == strided


def test_a_plain_network_has_no_arcs(tmp_path: Path) -> None:
    text = svg(reported("paper/plain18"), tmp_path)
    assert len(ids(text, "box")) == 3 + 8 + 2
    assert not ids(text, "projection") + ids(text, "identity")
    assert "identity shortcut" not in text


def test_rates_are_shown_where_strides_became_rates(tmp_path: Path) -> None:
    text = svg(reported("torchvision/resnext50_32x4d", output_stride=8), tmp_path)
    assert "output stride 8" in text
    shown = re.findall(r"<!-- ((?:rate |r)\d) -->", text)
    assert shown == ["rate 2", "r2", "rate 4"]
    assert ids(text, "stride") == ["root.conv1", "root.pool1", "block2.unit_1"]


@pytest.mark.parametrize(
    ("name", "output_stride"),
    [
        ("slim/resnet_v1_50", None),
        ("slim/resnet_v2_200", 8),
        ("torchvision/resnext101_64x4d", 4),
        ("paper/resnet1202", None),
        ("paper/resnext29_8x64d", 1),
        ("slim/alexnet_v2", None),
        ("many", None),
    ],
)
def test_no_text_overlaps_another_or_leaves_the_drawing(
    name: str, output_stride: int | None
) -> None:
    from matplotlib.backends.backend_agg import RendererAgg

    if name == "many":
        found = report(expand(MANY_BLOCKS, SLIM_V2, num_classes=10), 128)
    else:
        found = reported(name, output_stride)
    image = figure(found, name)
    renderer = RendererAgg(1, 1, image.dpi)  # type: ignore[no-untyped-call]
    texts = [text for text in image.axes[0].texts if text.get_text()]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    width, height = image.get_size_inches() * image.dpi
    assert width <= 1010
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
    for (one, first), (other, second) in combinations(boxes, 2):
        apart = (
            first.x1 <= second.x0
            or second.x1 <= first.x0
            or first.y1 - 1.5 <= second.y0  # lines of text share their leading
            or second.y1 - 1.5 <= first.y0
        )
        assert apart, (one, other)


def test_a_png_is_drawn_at_twice_its_size(tmp_path: Path) -> None:
    from PIL import Image

    file = tmp_path / "net.png"
    draw(reported("paper/resnet20"), file, title="paper/resnet20")
    with Image.open(file) as image:
        assert image.format == "PNG"
        assert image.width > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["net.png"]


def test_the_same_drawing_is_the_same_file(tmp_path: Path) -> None:
    assert svg(reported("paper/resnet20"), tmp_path) == svg(reported("paper/resnet20"), tmp_path)


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a file name that ends in \.svg or \.png"):
        draw(reported("paper/resnet20"), tmp_path / "net.pdf", title="")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"the folder '.*missing' does not exist.* Create the folder first"
    ):
        draw(reported("paper/resnet20"), tmp_path / "missing" / "net.svg", title="")


def test_a_failed_drawing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    file = tmp_path / "net.svg"
    file.write_text("old", encoding="utf-8")

    def full(_figure: Figure, path: Path, **_: object) -> None:
        path.write_text("half", encoding="utf-8")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(ForebearError, match=r"cannot be written .*No space left"):
        draw(reported("paper/resnet20"), file, title="")
    assert file.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_missing_matplotlib_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ForebearError, match=r"pip install 'forebear\[plots\]'"):
        draw(reported("paper/resnet20"), tmp_path / "net.svg", title="")
