"""ONNX Runtime as an engine."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.engines.engine import EngineName, EnginePrecision, Pixels
from forebear.engines.graph_card import GraphCard, read_card
from forebear.errors import WeightsError
from forebear.files import is_own, write_whole
from forebear.hardware import processor
from forebear.text import truncated


class OnnxRuntimeEngine:
    """A graph that `write_onnx` wrote, on the CPU."""

    name: EngineName = "onnxruntime"

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        precision: EnginePrecision | None = None,
        card: GraphCard | None = None,
        cache: Path | None = None,
    ) -> None:
        """Loads the graph.

        Args:
            path: The ONNX file.
            threads: Compute threads; None takes all cores that the process may use.
            precision: None takes that of the card.
            card: Of the file, if it was read before.
            cache: A folder in which the graph is kept as ONNX Runtime optimised it for this
                processor; None keeps none. Optimising a ResNet-50 takes 0.15 s, which is a third of
                the time from the start of a program to its first answer.

        Raises:
            WeightsError: The file is no such graph, or ONNX Runtime cannot load it.
        """
        import onnxruntime

        self.card = read_card(path) if card is None else card
        self.precision: EnginePrecision = precision or self.card.precision
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or processor().cores
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session: Any = _session(path, options, cache)
        except Exception as error:  # its exceptions have no common base of their own
            raise WeightsError(
                f"{truncated(path)}: ONNX Runtime cannot load it ({truncated(error)}). Expected a "
                "graph from forebear export. Export the network again."
            ) from error
        self._input = self._session.get_inputs()[0].name

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """Returns the logits, [N, classes]."""
        values = {self._input: self.card.graph_input(pixels)}
        logits: NDArray[np.float32] = self._session.run(None, values)[0]
        return logits


def _session(path: Path, options: Any, cache: Path | None) -> Any:
    """Returns a session, from the optimised graph if the cache has it."""
    import onnxruntime

    providers = ["CPUExecutionProvider"]

    def session(graph: Path) -> Any:
        return onnxruntime.InferenceSession(str(graph), options, providers=providers)

    if cache is None:
        return session(path)
    facts = [onnxruntime.__version__, processor().key, path.name, path.stat().st_mtime_ns]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    kept = cache / f"onnxruntime-{key}.onnx"
    if is_own(kept):
        plain = options.graph_optimization_level
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return session(kept)
        except Exception:  # damaged, or of another build: it is written again
            options.graph_optimization_level = plain
    made: list[Any] = []

    def write(partial: Path) -> None:
        options.optimized_model_filepath = str(partial)
        made.append(session(path))

    with suppress(Exception):  # such as a full disk: the cache is not needed
        write_whole(kept, write)
    options.optimized_model_filepath = ""
    return made[0] if made else session(path)
