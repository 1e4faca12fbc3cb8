"""Post-training quantisation: an int8 graph, calibrated and judged on real images.

ONNX Runtime's static quantisation: weights in int8 with a scale per output channel, activations in
uint8 with a scale per tensor. Nagel et al. 2021, "A white paper on neural network quantization".
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.engines.engine import Engine, Pixels
from forebear.engines.graph_card import GraphCard, read_card
from forebear.engines.onnxruntime_engine import OnnxRuntimeEngine
from forebear.errors import WeightsError
from forebear.files import write_whole
from forebear.hardware import processor

BATCH = 16  # images at a time
METHODS = ("minmax", "percentile")  # of choosing the range of activations


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How the network and its int8 graph answer labelled images."""

    images: int
    before: int  # images that the fp32 graph classifies correctly
    after: int  # that the int8 graph does
    same: int  # images with the same class
    method: str  # how the ranges were chosen

    @property
    def lost(self) -> float:
        """Points of top-1 accuracy that were lost."""
        return 100 * (self.before - self.after) / max(self.images, 1)

    def line(self) -> str:
        """Returns the figures in one line."""
        count = max(self.images, 1)
        return (
            f"top-1 {self.before / count:.2%} before, {self.after / count:.2%} after, on "
            f"{self.images:,} images; {self.same / count:.2%} have the same class; activations by "
            f"{self.method}"
        )


class _Reader:
    """Hands calibration batches to ONNX Runtime."""

    def __init__(self, name: str, batches: Iterator[NDArray[Any]]) -> None:
        self._name, self._batches = name, batches

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Returns the next batch, or None."""
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}


def quantize(
    graph: Path,
    target: Path,
    calibration: Pixels,
    pixels: Pixels,
    labels: Sequence[int],
    *,
    limit: float = 0.1,
) -> Accuracy:
    """Writes the int8 graph of an fp32 graph, and returns how it answers labelled images.

    The ranges of activations are chosen by each of two methods, and the better graph is kept.

    Args:
        graph: That `write_onnx` wrote.
        target: The file to write.
        calibration: Images that ranges are measured on, [N, size, size, C].
        pixels: Images that accuracy is measured on; others than those of the calibration.
        labels: Their classes, in the order of the logits.
        limit: Points of top-1 accuracy that may be lost.

    Raises:
        WeightsError: The int8 graph loses more.
    """
    card = read_card(graph)
    wanted = _classes(OnnxRuntimeEngine(graph, card=card), pixels)
    truth = np.asarray(labels)
    best: tuple[Accuracy, bytes] | None = None
    with tempfile.TemporaryDirectory(prefix="forebear-") as place:
        for method in METHODS:
            path = Path(place) / f"{method}.onnx"
            _write(graph, path, card, calibration, method)
            found = _classes(OnnxRuntimeEngine(path), pixels)
            accuracy = Accuracy(
                images=len(truth),
                before=int((wanted == truth).sum()),
                after=int((found == truth).sum()),
                same=int((found == wanted).sum()),
                method=method,
            )
            if best is None or (accuracy.after, accuracy.same) > (best[0].after, best[0].same):
                best = accuracy, path.read_bytes()
    assert best is not None
    accuracy, content = best
    if accuracy.lost > limit:
        raise WeightsError(
            f"{card.network}: int8 loses {accuracy.lost:.2f} points of top-1 accuracy "
            f"({accuracy.line()}). Expected at most {limit:g}. Pass more calibration images, or a "
            "larger --limit."
        )
    write_whole(target, lambda partial: _put(partial, content))
    return accuracy


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _classes(engine: Engine, pixels: Pixels) -> NDArray[np.int64]:
    rows = [engine(pixels[at : at + BATCH]).argmax(1) for at in range(0, len(pixels), BATCH)]
    return np.concatenate(rows)


def _write(graph: Path, path: Path, card: GraphCard, calibration: Pixels, method: str) -> None:
    import onnx
    from onnx import helper
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    kinds = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}
    step = min(BATCH, len(calibration))  # percentiles need batches of one size
    batches = (
        card.graph_input(calibration[at : at + step])
        for at in range(0, len(calibration) - step + 1, step)
    )
    with _silence():
        quantize_static(
            str(graph),
            str(path),
            _Reader("pixels", batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm", "Add", "MaxPool", "ReduceMean"],
            per_channel=True,
            # Without VNNI, sums of two products of 8 bits overflow 16 bits.
            reduce_range=not processor().level.startswith("avx512"),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=kinds[method],
        )
    model = onnx.load(str(path))
    helper.set_model_props(model, replace(card, precision="int8").properties())
    onnx.save(model, str(path))


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps ONNX Runtime's progress and its advice from the terminal."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
