"""The boxes of a drawing: which units share one, and what they are labelled with."""

from __future__ import annotations

from pathlib import Path

from forebear.network.describe.drawing_layout import stages
from tests.network.describe.making import reported, svg


def test_long_blocks_are_condensed(tmp_path: Path) -> None:
    blocks = [stage for stage in stages(reported("paper/resnet1202")) if stage.kind == "block"]
    assert [sum(box.count for box in stage.boxes) for stage in blocks] == [200, 200, 200]
    assert [box.count for box in blocks[0].boxes] == [1, 1, 197, 1]
    assert svg(reported("paper/resnet1202"), tmp_path).count("<!-- x 197 -->") == 3


def test_labels_say_units_form_groups_and_output() -> None:
    found = {stage.name: stage.lines for stage in stages(reported("torchvision/resnext50_32x4d"))}
    assert found["block3"] == ("6 x bottleneck", "512 wide, C=32", "1024x14x14")
    assert found["conv1"] == ("7x7 conv", "64x112x112")
    assert found["logits"] == ("linear", "1000")
