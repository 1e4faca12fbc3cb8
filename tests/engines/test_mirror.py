from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from forebear.engines.classifier import classifier_of
from forebear.engines.mirror import mirrored
from forebear.engines.torch_engine import TorchEngine
from forebear.network.mirror import MirrorNetwork
from tests.cli.making import image
from tests.engines.test_classifier import small


def test_logits_are_the_mean_of_an_image_and_its_mirror_image() -> None:
    network = small()
    plain = classifier_of(TorchEngine(network), network)
    both = mirrored(plain)
    assert both.identity != plain.identity
    pixels: Any = np.stack([plain.pixels(image(kind, 3, 64)) for kind in range(3)])
    turned: Any = np.ascontiguousarray(pixels[:, :, ::-1])
    wanted = (plain.logits(pixels) + plain.logits(turned)) / 2
    assert both.logits(pixels) == pytest.approx(wanted, abs=1e-6)
    assert both.logits(turned) == pytest.approx(wanted, abs=1e-6)
    assert np.abs(plain.logits(pixels) - wanted).max() > 1e-4
    assert (both.engine.name, both.engine.precision) == ("torch", "fp32")


def test_the_network_of_an_evaluation_does_the_same_and_keeps_its_mode() -> None:
    network = small().eval()
    x = torch.randn(2, 3, 64, 64)
    model = MirrorNetwork(network)
    with torch.inference_mode():
        wanted = (network(x) + network(x.flip(3))) / 2
        torch.testing.assert_close(model(x), wanted)
    assert not model.training
    assert not network.training
