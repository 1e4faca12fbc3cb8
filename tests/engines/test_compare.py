from __future__ import annotations

import numpy as np
import pytest

from forebear.engines.compare import difference, synthetic_images

LOGITS = np.array([[1.0, 3.0, 2.0], [0.0, -4.0, 1.0]], np.float32)


def test_equal_logits() -> None:
    found = difference(LOGITS, LOGITS)
    assert (found.largest, found.same_class, found.images) == (0, 2, 2)
    assert found.within(0)


def test_another_class() -> None:
    found = LOGITS.copy()
    found[0] = [1, 2.4, 2.6]
    apart = difference(found, LOGITS)
    assert apart.largest == pytest.approx(0.15)
    assert apart.same_class == 1
    assert not apart.within(0.2)
    assert apart.within(0.2, least=0.5)
    assert not apart.within(0.1, least=0.5)


def test_a_tie_may_change_places() -> None:
    found = LOGITS.copy()
    found[0] = [1, 2.4, 2.6]
    assert difference(found, LOGITS, tie=0.3).same_class == 2  # 3 and 2, of at most 4
    assert difference(found, LOGITS, tie=0.2).same_class == 1


def test_results_that_are_not_finite() -> None:
    found = LOGITS.copy()
    found[0, 0] = np.nan
    assert difference(found, LOGITS).largest == float("inf")
    assert not difference(found, LOGITS).within(1e9)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1, 3\] instead of \[2, 3\]"):
        difference(LOGITS[:1], LOGITS)


def test_synthetic_images_are_like_photographs() -> None:
    """Neighbouring pixels are alike, unlike in noise, and the values fill the range."""
    image = synthetic_images(1, 80)[0]
    values = np.asarray(image, np.float32)
    near = np.abs(np.diff(values, axis=0)).mean()
    far = np.abs(values[:40] - values[40:]).mean()
    assert near < 0.6 * far  # noise has 1.0
    assert values.std() > 30
    assert values.shape == (80, 80, 3)
