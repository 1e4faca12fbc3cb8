"""Makes the engines of a network, and what they are compared with."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from forebear.engines.engine import Engine, EngineName, EnginePrecision, missing_library
from forebear.engines.graph_cache import FP32, INT8, kept_graph, new_folder
from forebear.engines.graph_card import GraphCard, read_card
from forebear.errors import WeightsError
from forebear.tables.preprocessing import Preprocessing

if TYPE_CHECKING:
    import torch

    from forebear.network.network import Network

IMAGES = 8  # to compare engines on


def graph_engine(
    name: EngineName,
    graph: Path,
    card: GraphCard,
    precision: EnginePrecision,
    threads: int | None,
    cache: Path | None = None,
) -> Engine:
    """Returns ONNX Runtime or OpenVINO with a graph.

    Args:
        name: onnxruntime or openvino.
        graph: The file.
        card: Of the file.
        precision: To compute in.
        threads: Compute threads; None takes all cores.
        cache: A folder for what the engine makes of the graph; None keeps nothing.

    Raises:
        WeightsError: The graph cannot be loaded.
    """
    if name == "onnxruntime":
        from forebear.engines.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(
            graph, threads=threads, precision=precision, card=card, cache=cache
        )
    from forebear.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(
        graph, threads=threads, precision=precision, card=card, cache=cache and cache / "openvino"
    )


def open_graph(path: Path, threads: int | None = None) -> tuple[Engine, GraphCard]:
    """Returns the engine and the card of an exported file: .onnx, or OpenVINO's .xml.

    Raises:
        WeightsError: forebear did not write the file, or it is damaged.
        ValueError: The runtime is not installed. The message names the extra.
    """
    name: EngineName = "openvino" if path.suffix == ".xml" else "onnxruntime"
    missing = missing_library(name)
    if missing:
        raise ValueError(missing)
    if name == "openvino":
        from forebear.engines.openvino_engine import OpenVinoEngine

        first = OpenVinoEngine(path, threads=threads)
        return first, first.card
    from forebear.engines.onnxruntime_engine import OnnxRuntimeEngine

    second = OnnxRuntimeEngine(path, threads=threads)
    return second, second.card


class EngineMaker:
    """Makes the engines of one network, each of them once.

    The graph is written into the cache. Without a cache it is written into a temporary folder,
    which is deleted at the end of the context: the engines have read it by then.
    """

    def __init__(
        self,
        network: Network,
        precision: EnginePrecision,
        threads: int | None = None,
        folder: Path | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """Prepares; nothing is written yet.

        Args:
            network: In evaluation mode.
            precision: Of all engines.
            threads: Compute threads; None takes all cores.
            folder: Of the cache; None keeps nothing.
            device: Of torch and compile. The other engines compute on the processor.
        """
        self._network, self._precision, self._threads = network, precision, threads
        self._folder, self._device = folder, device
        self._place: tempfile.TemporaryDirectory[str] | None = None
        self._graph: tuple[Path, GraphCard] | None = None
        self._made: dict[EngineName, Engine] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._place is not None:
            self._place.cleanup()

    def make(self, name: EngineName) -> Engine:
        """Returns an engine.

        Raises:
            WeightsError: The network cannot be written as a graph.
        """
        if name not in self._made:
            self._made[name] = self._new(name)
        return self._made[name]

    def _new(self, name: EngineName) -> Engine:
        if name in ("torch", "compile"):
            from forebear.engines.torch_engine import TorchEngine

            return TorchEngine(
                self._network,
                precision=self._precision,
                compiled=name == "compile",
                device=self._device,
                threads=self._threads,
            )
        if self._graph is None:
            self._graph = self._written()
        path, card = self._graph
        cache = path.parent if path.parent == self._folder else None
        return graph_engine(name, path, card, self._precision, self._threads, cache)

    def _written(self) -> tuple[Path, GraphCard]:
        from forebear.engines.onnx_model import write_onnx

        if self._folder is not None:
            with suppress(OSError):  # a cache that cannot be written to is not needed
                new_folder(self._folder)
                path = self._folder / FP32
                if kept_graph(self._folder, FP32) is not None:
                    with suppress(WeightsError):  # damaged: it is written again
                        return path, read_card(path)
                return path, write_onnx(self._network, path)
        self._place = tempfile.TemporaryDirectory(prefix="forebear-")
        path = Path(self._place.name) / FP32
        return path, write_onnx(self._network, path)


def check_pixels(rule: Preprocessing, images: list[Any] | None = None) -> Any:
    """Returns images to compare engines on, [N, H, W, C] in 0..255.

    Args:
        rule: The preprocessing.
        images: Photographs; None makes images with their spectrum.
    """
    from forebear.data.images.preprocess import fit, to_image
    from forebear.engines.compare import synthetic_images

    images = images or list(
        synthetic_images(IMAGES, max(2 * max(rule.shape), 64), 0, rule.channels)
    )
    if rule.resize == "none":
        images = [one.resize(rule.shape[::-1]) for one in images]
    return np.stack([fit(to_image(one, rule.channels, rule.levels), rule) for one in images])


class Int8Maker:
    """Makes the engines of a kept int8 graph."""

    def __init__(self, folder: Path, card: GraphCard, threads: int | None) -> None:
        """Names the graph.

        Args:
            folder: Of the cache.
            card: Of the graph.
            threads: Compute threads; None takes all cores.
        """
        self._folder, self._card, self._threads = folder, card, threads

    def make(self, name: EngineName) -> Engine:
        """Returns an engine.

        Raises:
            WeightsError: The graph cannot be loaded.
        """
        graph = self._folder / INT8
        return graph_engine(name, graph, self._card, "int8", self._threads, self._folder)


def reference(network: Network, images: list[Any] | None = None) -> tuple[Any, Any]:
    """Returns pixels to compare engines on, and the logits of the network itself for them.

    Args:
        network: In evaluation mode.
        images: Photographs; None makes images with their spectrum.
    """
    import torch

    from forebear.data.images.preprocess import normalise

    rule = network.preprocessing
    pixels = check_pixels(rule, images)
    inputs = np.stack([normalise(one, rule) for one in pixels])
    with torch.inference_mode():
        wanted = network(torch.from_numpy(inputs)).float().numpy()
    return pixels, wanted
