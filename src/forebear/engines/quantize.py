"""Post-training quantisation: an int8 graph, calibrated and judged on real images.

Weights are in int8 with a scale per output channel, activations in 8 bits with a scale per tensor.
Nagel et al. 2021, "A white paper on neural network quantization". NNCF writes the graphs, if it is
installed, and ONNX Runtime's static quantisation. Both engines run NNCF's graph of a ResNet-50 1.3
to 1.6 times as fast as ONNX Runtime's, since it leaves fewer values in float32.
"""

from __future__ import annotations

import importlib.util
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
from forebear.engines.openvino_import import import_nncf
from forebear.errors import WeightsError
from forebear.files import write_whole
from forebear.hardware import has_vnni

BATCH = 16  # images at a time
METHODS = ("nncf", "minmax", "percentile")  # NNCF's, and ONNX Runtime's two ranges of activations
NNCF = METHODS[0]
_TITLES = {
    "nncf": "NNCF",
    "minmax": "ONNX Runtime, ranges from the smallest to the largest value",
    "percentile": "ONNX Runtime, ranges by percentiles",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How the network and its int8 graph answer labelled images."""

    images: int
    before: int  # images that the fp32 graph classifies correctly
    after: int  # that the int8 graph does
    same: int  # images with the same class
    method: str  # one of METHODS

    @property
    def lost(self) -> float:
        """Points of top-1 accuracy that were lost."""
        return 100 * (self.before - self.after) / max(self.images, 1)

    def line(self) -> str:
        """Returns the figures in one line."""
        count = max(self.images, 1)
        return (
            f"top-1 {self.before / count:.2%} before, {self.after / count:.2%} after, on "
            f"{self.images:,} images; {self.same / count:.2%} have the same class; quantised by "
            f"{_TITLES[self.method]}"
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

    Each of the methods writes a graph. NNCF's is kept if it loses no more than the limit, because
    it is faster; otherwise the one that loses least is kept.

    Args:
        graph: That `write_onnx` wrote.
        target: The file to write.
        calibration: Images that ranges are measured on, [N, H, W, C].
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
        for method in methods():
            path = Path(place) / f"{method}.onnx"
            write = _write_nncf if method == NNCF else _write
            with _silence():
                write(graph, path, card, calibration, method)
            found = _classes(OnnxRuntimeEngine(path), pixels)
            accuracy = Accuracy(
                images=len(truth),
                before=int((wanted == truth).sum()),
                after=int((found == truth).sum()),
                same=int((found == wanted).sum()),
                method=method,
            )
            if best is None or _merit(accuracy, limit) > _merit(best[0], limit):
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


def methods() -> tuple[str, ...]:
    """Returns the methods whose library is installed."""
    missing = importlib.util.find_spec("nncf") is None
    return tuple(name for name in METHODS if not (missing and name == NNCF))


def _merit(found: Accuracy, limit: float) -> tuple[bool, int, int]:
    return found.method == NNCF and found.lost <= limit, found.after, found.same


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _classes(engine: Engine, pixels: Pixels) -> NDArray[np.int64]:
    rows = [engine(pixels[at : at + BATCH]).argmax(1) for at in range(0, len(pixels), BATCH)]
    return np.concatenate(rows)


def _write(graph: Path, path: Path, card: GraphCard, calibration: Pixels, method: str) -> None:
    import onnx
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
    quantize_static(
        str(graph),
        str(path),
        _Reader("pixels", batches),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "Gemm", "Add", "MaxPool", "ReduceMean"],
        per_channel=True,
        reduce_range=not has_vnni(),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=kinds[method],
    )
    _save(onnx.load(str(path)), path, card)


def _write_nncf(graph: Path, path: Path, card: GraphCard, calibration: Pixels, _: str) -> None:
    import onnx

    nncf = import_nncf()
    images = [card.graph_input(calibration[at : at + 1]) for at in range(len(calibration))]
    # Weights have 7 bits where two products of 8 bits could overflow.
    fix = nncf.OverflowFix.DISABLE if has_vnni() else nncf.OverflowFix.ENABLE
    model = nncf.quantize(
        onnx.load(str(graph)),
        nncf.Dataset(images, lambda one: {"pixels": one}),
        subset_size=len(images),
        target_device=nncf.TargetDevice.CPU,
        advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=fix),
    )
    _save(model, path, card)


def _save(model: Any, path: Path, card: GraphCard) -> None:
    import onnx
    from onnx import helper

    helper.set_model_props(model, replace(card, precision="int8").properties())
    onnx.save(model, str(path))


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps the libraries' progress and advice from the terminal."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
