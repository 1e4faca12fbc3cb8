"""OpenVINO as an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.engines.engine import EngineName, EnginePrecision, Pixels
from forebear.engines.graph_card import PROPERTY, GraphCard, parse_card, read_card
from forebear.engines.openvino_import import import_openvino
from forebear.errors import WeightsError
from forebear.hardware import processor
from forebear.text import truncated
from forebear.untrusted import opened
from forebear.weights.readers.errors import reading

_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # of what an int8 graph leaves as is


class OpenVinoEngine:
    """A graph that `write_onnx` wrote, or OpenVINO's own file of it, on the CPU."""

    name: EngineName = "openvino"

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        precision: EnginePrecision | None = None,
        card: GraphCard | None = None,
        cache: Path | None = None,
    ) -> None:
        """Loads and compiles the graph.

        Args:
            path: An ONNX file, or an .xml file with its .bin next to it.
            threads: Compute threads; None takes all cores that the process may use.
            precision: None takes that of the card.
            card: Of the file, if it was read before.
            cache: A folder in which OpenVINO keeps the compiled graph; None keeps none.

        Raises:
            WeightsError: The file is no such graph, or OpenVINO cannot load it.
        """
        openvino = import_openvino()
        self.card = card or (openvino_card(path) if path.suffix == ".xml" else read_card(path))
        self.precision: EnginePrecision = precision or self.card.precision
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or processor().cores,
            "INFERENCE_PRECISION_HINT": _PRECISIONS[self.precision],
        }
        if cache is not None:
            settings["CACHE_DIR"] = str(cache)
        try:
            core = openvino.Core()
            self._model: Any = core.compile_model(str(path), "CPU", settings)
        except RuntimeError as error:
            raise WeightsError(
                f"{truncated(path)}: OpenVINO cannot load it ({truncated(error)}). Expected a "
                "graph from forebear export. Export the network again."
            ) from error
        self._request = self._model.create_infer_request()

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """Returns the logits, [N, classes]."""
        found = self._request.infer([self.card.graph_input(pixels)], share_inputs=True)
        return np.array(found[self._model.output(0)], np.float32)


def openvino_card(path: Path) -> GraphCard:
    """Returns the card of OpenVINO's own file, an .xml file with its .bin next to it.

    Raises:
        WeightsError: The file is missing, or forebear did not write it.
    """
    openvino = import_openvino()
    with reading(path, "an .xml file from forebear export --to openvino"), opened(path):
        model = openvino.Core().read_model(str(path))
        if not model.has_rt_info([PROPERTY]):
            raise ValueError("it names no classes and no preprocessing as forebear does")
        return parse_card(model.get_rt_info([PROPERTY]).astype(str))
