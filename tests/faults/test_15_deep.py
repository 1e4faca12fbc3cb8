"""16-bit and float images: scaled by their range and never clipped, or refused if it is unknown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from forebear.data.images.decode import open_image
from tests.faults import making
from tests.faults.conftest import Figure
from tests.faults.zygote import Zygote


def saved(values: Any, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind, **options)
    return stream.getvalue()


def declared(low: float, high: float) -> ImageFileDirectory_v2:
    tags = ImageFileDirectory_v2()
    for tag, value in ((340, low), (341, high)):
        tags.tagtype[tag] = 12
        tags[tag] = value
    return tags


RAMP = np.linspace(0, 65535, 4096).reshape(64, 64)
FILES = {
    "PNG": saved(RAMP.astype(np.uint16), "PNG"),
    "TIFF": saved(RAMP.astype(np.uint16), "TIFF"),
    "float TIFF": saved((RAMP / 65535).astype(np.float32), "TIFF", tiffinfo=declared(0.0, 1.0)),
}


@pytest.mark.parametrize("kind", FILES)
def test_values_are_scaled_and_none_is_clipped(kind: str, figure: Figure) -> None:
    grey = np.asarray(open_image(FILES[kind], channels=1)).astype(np.float64)
    wanted = RAMP * 255 / 65535
    saturated = int(((grey == 255) & (wanted < 254)).sum() + ((grey == 0) & (wanted > 1)).sum())
    figure.total("pixels clipped", saturated)
    assert saturated == 0
    assert np.abs(grey - wanted).max() <= 0.51
    assert len(np.unique(grey)) == 256


def test_an_unknown_range_is_refused_by_name(
    trained: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    (tmp_path / "x.tif").write_bytes(saved(RAMP.astype(np.float32), "TIFF"))
    done = zygote.start("predict", trained, tmp_path / "x.tif", folder=tmp_path / "said").wait()
    assert done.code == 2
    assert "x.tif: F samples (32 bits) of unknown range. Expected" in done.lines[0]
    figure.count("as specified", 1)


@pytest.mark.long
def test_the_range_of_the_set_is_said_and_used(
    place: Path, tmp_path: Path, zygote: Zygote, figure: Figure
) -> None:
    root = tmp_path / "data"
    for number, (image, label) in enumerate(zip(*making.pixels(), strict=True)):
        path = root / making.CLASSES[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved(image[:, :, 0].astype(np.uint16) * 16, "PNG"))  # 12 of 16 bits
    done = zygote.start("check", f"folder:{root}", folder=tmp_path / "said").wait()
    assert "16-bit images use 0 to 4,080 of 65,535" in done.stdout
    words = making.train(place, tmp_path / "run", data=f"folder:{root}")
    done = zygote.start(*words, "--sample-range", "auto", folder=tmp_path / "train").wait()
    done.succeeded()
    settings = (tmp_path / "run" / "settings.json").read_text()
    assert '"levels": [\n      0.0,\n      4080.0\n    ]' in settings
    assert float(done.stdout.split("%")[0]) > 90
    figure.count("as specified", 1)
