"""The formats that `forebear export` writes: how each is written, and how it is run.

Every file holds its card: class names, preprocessing, and the provenance and licence of the
weights.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from forebear.engines.classifier import identity_of
from forebear.engines.engine import Pixels
from forebear.engines.graph_card import PROPERTY, GraphCard, read_card
from forebear.engines.lower import lower
from forebear.engines.torch_engine import PixelNetwork
from forebear.network.network import Network

Runner = Callable[[Pixels], NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the graph takes and how it is stored."""

    pixels: bool = False  # uint8 pixels with the arithmetic of the preprocessing inside
    any_size: bool = False  # dynamic height and width
    precision: str = "fp32"  # of the stored weights: fp32, fp16 or int8
    int8: Path | None = None  # the graph that `quantize` kept, for int8; it takes pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format that a network can be written in."""

    name: str
    ending: str  # of the file or folder
    extra: str  # to install
    modules: tuple[str, ...]  # that must be importable
    # Writes the file and returns its card. The path has the ending, and nothing is there.
    write: Callable[[Network, Path, Options], GraphCard]
    # Opens the file in its own runtime.
    run: Callable[[Path, GraphCard], Runner]
    precisions: tuple[str, ...] = ("fp32",)
    any_size: bool = True
    companions: Sequence[str] = ()  # endings of files that belong to it
    platform: str = ""  # sys.platform on which its runtime runs; "" for all

    def missing(self, *, unchecked: bool) -> str:
        """Returns what keeps the format from being written here, and what to do; "" if nothing.

        Args:
            unchecked: Whether the file is not run.
        """
        if self.platform not in ("", sys.platform) and not unchecked:
            return (
                f"to={self.name}: its runtime exists for macOS only, so the file cannot be "
                "compared here. Expected a Mac. Run the export on one, or pass --unchecked."
            )
        lacks = [name for name in self.modules if importlib.util.find_spec(name) is None]
        if not lacks:
            return ""
        install = f"Run pip install 'forebear[{self.extra}]'." if self.extra else ""
        return (
            f"to={self.name}: {' and '.join(lacks)} is not installed. Expected the libraries that "
            f"write and run this format. {install}"
        )


def _write_onnx(network: Network, path: Path, options: Options) -> GraphCard:
    import onnx

    from forebear.engines.onnx_model import build

    if options.int8 is not None:
        shutil.copyfile(options.int8, path)
        return read_card(path)
    model, card = build(network, pixels=options.pixels, any_size=options.any_size)
    if options.precision == "fp16":
        _halve(model)
    onnx.save(model, str(path))
    return card


def _halve(model: Any) -> None:
    """Stores the arrays of an ONNX model in float16; the graph casts them back at its start."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for array in model.graph.initializer:
        if array.data_type != TensorProto.FLOAT or array.name.startswith("input."):
            continue
        name, values = array.name, numpy_helper.to_array(array)
        half = numpy_helper.from_array(values.astype(np.float16), f"{name}.fp16")
        array.CopyFrom(half)
        casts.append(helper.make_node("Cast", [half.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _run_onnx(path: Path, card: GraphCard) -> Runner:
    from forebear.engines.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path)


def _write_openvino(network: Network, path: Path, options: Options) -> GraphCard:
    from forebear.engines.onnx_model import build
    from forebear.engines.openvino_import import import_openvino

    openvino = import_openvino()
    if options.int8 is not None:
        card, graph = read_card(options.int8), openvino.Core().read_model(str(options.int8))
    else:
        model, card = build(network, pixels=options.pixels, any_size=options.any_size)
        plain = path.with_suffix(".onnx")
        plain.write_bytes(model.SerializeToString())
        try:
            graph = openvino.Core().read_model(str(plain))
        finally:
            plain.unlink()
    for name, text in card.properties().items():
        graph.set_rt_info(text, [name])
    openvino.save_model(graph, str(path), compress_to_fp16=options.precision == "fp16")
    return card


def _run_openvino(path: Path, card: GraphCard) -> Runner:
    from forebear.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(path)


def _module(network: Network, options: Options) -> torch.nn.Module:
    """Returns the module that torch.export and LiteRT see."""
    if options.pixels:
        return PixelNetwork(lower(network)).eval()
    return lower(network, keep_input=True)


def _card(network: Network, options: Options) -> GraphCard:
    rule = network.preprocessing
    floats = not options.pixels or rule.interpolation == "tf-bilinear"
    return GraphCard(
        network=network.table.name,
        dialect=network.dialect.name,
        preprocessing=rule,
        classes=network.classes,
        takes="pixels" if options.pixels else "images",
        dtype="float32" if floats else "uint8",
        size=rule.size,
        any_size=options.any_size,
        identity=identity_of(network),
        metrics=network.card.metrics,
        provenance=network.card.provenance,
        calibration=network.card.calibration,
        multi_label=network.card.multi_label,
    )


def _example(card: GraphCard, count: int) -> torch.Tensor:
    rule = card.preprocessing
    zeros = np.zeros((count, *rule.shape, rule.channels), np.uint8)
    return torch.from_numpy(card.graph_input(zeros))


def _write_torch(network: Network, path: Path, options: Options) -> GraphCard:
    card = _card(network, options)
    batch = torch.export.Dim("batch", min=1, max=65_536)
    sides = {1: "height", 2: "width"} if options.pixels else {2: "height", 3: "width"}
    shape: dict[int, Any] = {0: batch}
    if options.any_size:
        least = max(network.smallest_side, network.plan.stride + 1)  # maps of 2 values and more
        shape |= {at: torch.export.Dim(side, min=least) for at, side in sides.items()}
    program = torch.export.export(
        _module(network, options), (_example(card, 2),), dynamic_shapes=(shape,)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path, extra_files={PROPERTY: card.text()})
    return card


def _run_torch(path: Path, card: GraphCard) -> Runner:
    model = torch.export.load(path).module()

    def run(pixels: Pixels) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits = model(torch.from_numpy(card.graph_input(pixels)))
        values: NDArray[np.float32] = logits.numpy()
        return values

    return run


def _write_litert(network: Network, path: Path, options: Options) -> GraphCard:
    import litert_torch

    card = _card(network, options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = litert_torch.convert(_module(network, options), (_example(card, 1),))
    model.export(str(path))
    # LiteRT's convention: files that belong to a model follow it as a zip archive.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "".join(f"{name}\n" for name in card.classes))
        archive.writestr(f"{PROPERTY}.json", card.text())
    return card


def _run_litert(path: Path, card: GraphCard) -> Runner:
    from ai_edge_litert.interpreter import Interpreter

    model = Interpreter(str(path))
    model.allocate_tensors()
    given, answer = model.get_input_details()[0], model.get_output_details()[0]

    def one(values: NDArray[Any]) -> NDArray[np.float32]:
        model.set_tensor(given["index"], values[None])
        model.invoke()
        logits: NDArray[np.float32] = model.get_tensor(answer["index"])
        return logits

    # One image at a time: LiteRT 2.3 accepts another batch size and then gives wrong results for
    # networks that pad explicitly (measured: 8 % to 12 % of the largest logit).
    return lambda pixels: np.concatenate([one(values) for values in card.graph_input(pixels)])


def _write_coreml(network: Network, path: Path, options: Options) -> GraphCard:
    import coremltools

    card = _card(network, replace(options, pixels=False))
    program = torch.export.export(lower(network, keep_input=True), (_example(card, 1),))
    model = coremltools.convert(
        program.run_decompositions({}),
        convert_to="mlprogram",
        minimum_deployment_target=coremltools.target.iOS16,
    )
    model.user_defined_metadata.update(card.properties())
    model.license = str(card.provenance.get("licence", ""))
    model.save(str(path))
    return card


def _run_coreml(path: Path, card: GraphCard) -> Runner:
    import coremltools

    model = coremltools.models.MLModel(str(path))
    name = model.get_spec().description.input[0].name

    def run(pixels: Pixels) -> NDArray[np.float32]:
        rows = card.graph_input(pixels)
        found = [next(iter(model.predict({name: row[None]}).values())) for row in rows]
        return np.concatenate(found).astype(np.float32)

    return run


FORMATS = {
    one.name: one
    for one in (
        Format(
            name="onnx",
            ending=".onnx",
            extra="onnx",
            modules=("onnx", "onnxruntime"),
            write=_write_onnx,
            run=_run_onnx,
            precisions=("fp32", "fp16", "int8"),
        ),
        Format(
            name="openvino",
            ending=".xml",
            extra="openvino",
            modules=("onnx", "openvino"),
            write=_write_openvino,
            run=_run_openvino,
            precisions=("fp32", "fp16", "int8"),
            companions=(".bin",),
        ),
        Format(
            name="torch-export",
            ending=".pt2",
            extra="",
            modules=(),
            write=_write_torch,
            run=_run_torch,
        ),
        Format(
            name="litert",
            ending=".tflite",
            extra="litert",
            modules=("litert_torch", "ai_edge_litert"),
            write=_write_litert,
            run=_run_litert,
            any_size=False,
        ),
        Format(
            name="coreml",
            ending=".mlpackage",
            extra="coreml",
            modules=("coremltools",),
            write=_write_coreml,
            run=_run_coreml,
            any_size=False,
            platform="darwin",
        ),
    )
}
