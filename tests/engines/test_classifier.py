from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import forebear
from forebear.engines.classifier import classifier_of, identity_of, scores, softmax
from forebear.engines.torch_engine import TorchEngine
from forebear.errors import RunError, WeightsError
from forebear.tables.preprocessing import TIMM_V2
from tests.cli.making import image
from tests.engines.test_onnx_model import prepared, sized
from tests.network.making import FITTED, make, table


def small() -> forebear.Network:
    network = make(table("basic"), "torchvision", num_classes=3)
    network = prepared(network, sized(TIMM_V2, 64))
    network.card = replace(network.card, classes=("a", "b", "c"))
    return network


def test_guesses_are_the_networks() -> None:
    network = small()
    classifier = classifier_of(TorchEngine(network), network, "here")
    images = [image(kind, 0, 64) for kind in range(3)]
    found = classifier(images, top=2)
    wanted = network(network.preprocess(images)).softmax(1)
    for row, guesses in zip(wanted.tolist(), found, strict=True):
        order = np.argsort(row)[::-1][:2]
        assert [name for name, _ in guesses] == ["abc"[at] for at in order]
        assert [share for _, share in guesses] == pytest.approx([row[at] for at in order], rel=1e-4)


def test_classes_without_names_are_numbers() -> None:
    network = small()
    network.card = replace(network.card, classes=())
    classifier = classifier_of(TorchEngine(network), network)
    assert classifier.name_of(2) == "2"


def test_results_that_are_not_finite_are_refused() -> None:
    network = small()
    network.get_parameter("logits.bias").data[1] = float("nan")
    classifier = classifier_of(TorchEngine(network), network)
    pixels = classifier.pixels(image(0, 0, 64))[None]
    with pytest.raises(WeightsError, match="first: the results of small are not finite"):
        classifier.logits(pixels, ["first"])


@pytest.mark.parametrize(
    "fault",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("bad allocation: Failed to allocate memory for requested buffer of size 9"),
        MemoryError(),
    ],
)
def test_memory_that_runs_out_is_an_error_of_one_line(fault: Exception) -> None:
    network = small()
    classifier = classifier_of(TorchEngine(network), network)
    pixels = classifier.pixels(image(0, 0, 64))[None]
    with pytest.raises(RunError, match=r"^memory ran out at a batch of 1 images \(.*Pass a sma"):
        replace(classifier, engine=raising(fault)).logits(pixels)
    with pytest.raises(RuntimeError, match="another"):
        replace(classifier, engine=raising(RuntimeError("another"))).logits(pixels)


def raising(fault: Exception) -> Any:
    def call(_: object) -> None:
        raise fault

    return call


def test_identity_is_that_of_the_arrays() -> None:
    network = small()
    before = identity_of(network)
    assert identity_of(small()) == before
    network.get_parameter("logits.bias").data[0] += 1
    assert identity_of(network) != before


def test_features_have_no_classes() -> None:
    network = make(table("basic"), "torchvision", num_classes=None)
    with pytest.raises(ValueError, match="no classifier or no global pool"):
        classifier_of(TorchEngine(network), network)


def test_softmax_of_large_logits() -> None:
    found = softmax(np.array([[1000.0, 999.0], [-1000.0, -1000.0]], np.float32))
    assert found == pytest.approx(np.array([[0.7310586, 0.2689414], [0.5, 0.5]]), rel=1e-5)


LOGITS = np.array([[4.0, 0.0, 0.0], [0.5, 0.0, 0.0]], np.float32)


def test_the_temperature_changes_probabilities_and_no_logits() -> None:
    network = small()
    plain = classifier_of(TorchEngine(network), network)
    network.card = replace(network.card, calibration=FITTED)
    calibrated = classifier_of(TorchEngine(network), network)
    pixels = plain.pixels(image(0, 0, 64))[None]
    np.testing.assert_array_equal(plain.logits(pixels), calibrated.logits(pixels))
    halved = (LOGITS / 2).astype(np.float32)
    assert softmax(LOGITS, 2.0) == pytest.approx(softmax(halved))
    assert calibrated.probabilities(LOGITS) == pytest.approx(softmax(LOGITS, 2.0))
    assert calibrated.guesses(LOGITS)[0][0][1] == pytest.approx(softmax(LOGITS, 2.0)[0, 0])
    assert plain.probabilities(LOGITS) == pytest.approx(softmax(LOGITS))


def test_a_score_below_the_threshold_is_unknown() -> None:
    network = small()
    network.card = replace(network.card, calibration=FITTED)
    classifier = classifier_of(TorchEngine(network), network)
    assert classifier.probabilities(LOGITS).max(1) == pytest.approx([0.787, 0.391], abs=1e-3)
    assert classifier.unknown(LOGITS).tolist() == [False, True]
    strict = replace(classifier, calibration=replace(FITTED, score="energy", threshold=3.0))
    assert strict.unknown(LOGITS).tolist() == [False, True]  # 2 log(2 + e^2) and 2 log(2 + e^0.25)


def test_scores_are_those_of_the_papers() -> None:
    wide = LOGITS.astype(np.float64)
    energy = scores(LOGITS, 2.0, "energy")
    assert energy == pytest.approx(2 * np.log(np.exp(wide / 2).sum(1)))
    assert scores(LOGITS, 2.0, "probability") == pytest.approx(softmax(LOGITS, 2.0).max(1))
    assert np.isfinite(scores(1e4 * LOGITS, 0.1, "energy")).all()


def test_unknown_without_a_threshold_or_with_such_a_class_is_refused() -> None:
    network = small()
    classifier = classifier_of(TorchEngine(network), network, "here")
    with pytest.raises(ValueError, match=r"here has no threshold .* Run forebear calibrate"):
        classifier.unknown(LOGITS)
    named = replace(classifier, calibration=FITTED, classes=("a", "unknown", "c"))
    with pytest.raises(ValueError, match="a class named 'unknown'"):
        named.unknown(LOGITS)


def test_another_calibration_gives_other_answers() -> None:
    network = small()
    plain = classifier_of(TorchEngine(network), network)
    assert plain.answers_as() == plain.identity
    fitted = replace(plain, calibration=FITTED)
    other = replace(plain, calibration=replace(FITTED, temperature=3.0))
    found = {one.answers_as(unknown=said) for one in (fitted, other) for said in (True, False)}
    assert len(found | {plain.identity}) == 5
