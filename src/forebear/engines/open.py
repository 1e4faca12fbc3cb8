"""Opens a classifier: the weights, and the engine that answers fastest."""

from __future__ import annotations

from pathlib import Path

from forebear.engines.classifier import Classifier, classifier_of
from forebear.engines.engine import EngineRequest


def open_classifier(
    source: Path | str,
    request: EngineRequest | None = None,
    *,
    network: str | None = None,
    which: str | None = None,
) -> Classifier:
    """Returns a classifier from a run folder, a checkpoint, or an exported model.

    Args:
        source: A run folder, a checkpoint in any format, or "published" with `network`.
        request: The engine and the precision; None chooses both.
        network: The name of the network of the weights; None detects it.
        which: The weights to take if the file has several sets.

    Raises:
        ForebearError: The file cannot be used.
        ValueError: The engine or the precision is not there. The message says what is.
    """
    from forebear.engines.torch_engine import TorchEngine
    from forebear.weights.load import load

    request = request or EngineRequest()
    if network is None:
        loaded = load(Path(source), which=which)
    else:
        loaded = load(network, weights=str(source), which=which)
    return classifier_of(TorchEngine(loaded), loaded, source)
