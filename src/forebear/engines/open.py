"""Opens a classifier: the weights, and the engine that answers fastest.

With a choice from the cache, nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from forebear.engines.choose import Choice, choice_key, choice_to_dict, choose, parse_choice
from forebear.engines.classifier import Classifier
from forebear.engines.engine import (
    Engine,
    EngineName,
    EnginePrecision,
    EngineRequest,
    missing_library,
)
from forebear.engines.graph_cache import (
    FP32,
    INT8,
    cache_of,
    kept_graph,
    mark_used,
    read_choices,
    write_choice,
)
from forebear.engines.graph_card import GraphCard, is_foreign, read_card
from forebear.engines.make import (
    EngineMaker,
    Int8Maker,
    check_pixels,
    graph_engine,
    open_graph,
)
from forebear.errors import WeightsError
from forebear.hardware import processor
from forebear.network.model_card import NOTES
from forebear.text import truncated
from forebear.weights.hub_source import located

if TYPE_CHECKING:
    from forebear.network.network import Network

MEASURED: tuple[EngineName, ...] = ("torch", "onnxruntime", "openvino")
PRECISIONS: dict[EngineName, tuple[EnginePrecision, ...]] = {
    "torch": ("fp32", "bf16"),
    "compile": ("fp32", "bf16"),
    "onnxruntime": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
}


def open_classifier(
    source: Path | str,
    request: EngineRequest | None = None,
    *,
    network: str | None = None,
    which: str | None = None,
    load: Callable[[], Network] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Classifier:
    """Returns a classifier from a run folder, a checkpoint, or an exported model.

    Args:
        source: A run folder, a checkpoint in any format, an .onnx or .xml file that forebear
            exported, or "published" with `network`. ONNX graphs of other programs are checkpoints.
        request: The engine and the precision; None chooses both.
        network: The name of the network of the weights; None detects it.
        which: The weights to take if the file has several sets.
        load: Loads the network, instead of `forebear.load`.
        say: Takes lines: the choice of the engine, when it is measured.

    Raises:
        ForebearError: The file cannot be used.
        ValueError: The engine or the precision is not there. The message says what is.
    """
    request = request or EngineRequest()
    path = located(Path(source))
    check_request(request)
    if path.suffix in (".onnx", ".xml") and network is None and not is_foreign(path):
        if request.device != "cpu":
            raise ValueError(
                f"device={request.device}: {truncated(path)} is an exported graph, which runs on "
                "the CPU here. Expected weights or a run folder on a GPU. Pass one, or --device "
                "cpu."
            )
        return _exported(path, request)
    folder = cache_of(path, network, which) if request.device == "cpu" else None
    precision: EnginePrecision = "fp32" if request.precision == "auto" else request.precision
    if folder is not None:
        found = _from_cache(folder, request, precision, path)
        if found is not None:
            return found
    if precision == "int8":
        raise ValueError(
            f"precision=int8: {truncated(path)} is not quantised on this machine. Expected a graph "
            "that forebear quantize made. Run forebear quantize RUN --data DATA first."
        )
    loaded = load() if load is not None else _loaded(path, network, which)
    _forget_notes(loaded, path)
    return opened_network(loaded, request, folder, source=str(source), say=say)


def check_request(request: EngineRequest) -> None:
    """Refuses an engine or a precision that this machine lacks.

    Raises:
        ValueError: The message says what the machine has.
    """
    if request.batch < 1 or (request.threads or 1) < 1:
        raise ValueError(
            f"batch={request.batch}, threads={request.threads}: expected 1 or more of each. Pass "
            "a larger number."
        )
    if request.device != "cpu":
        _check_gpu(request)
        return
    if request.engine != "auto":
        missing = missing_library(request.engine)
        if missing:
            raise ValueError(missing)
        known = PRECISIONS[request.engine]
        if request.precision not in ("auto", *known):
            raise ValueError(
                f"precision={request.precision}: {request.engine} computes in {', '.join(known)}. "
                "Pass one of these, or --engine auto."
            )
    if request.precision == "bf16":
        check_bf16("fp32 or int8")


def _check_gpu(request: EngineRequest) -> None:
    """Refuses what does not run on a GPU, and a GPU that is not there.

    Raises:
        ValueError: The message says what is possible.
    """
    if request.engine not in ("auto", "torch", "compile"):
        raise ValueError(
            f"engine={request.engine}, device={request.device}: {request.engine} runs on the CPU. "
            "Expected torch or compile on a GPU. Pass one of these, or --device cpu."
        )
    if request.precision == "int8":
        raise ValueError(
            f"precision=int8, device={request.device}: int8 graphs run on the CPU. Expected fp32 "
            "or bf16 on a GPU. Pass one of these, or --device cpu."
        )
    import torch

    if not torch.cuda.is_available():
        raise ValueError(
            f"device={request.device}: this machine has no GPU that torch can use. Expected cpu. "
            "Pass cpu."
        )


def check_bf16(instead: str) -> None:
    """Refuses bf16 on a processor without its arithmetic.

    Args:
        instead: The precisions to pass.

    Raises:
        ValueError: The message names the processor.
    """
    if not processor().bf16:
        raise ValueError(
            f"precision=bf16: {processor().name or 'this processor'} (level {processor().level}) "
            "has no bfloat16 arithmetic, which is many times slower there. Expected AVX-512-bf16 "
            f"or AMX. Pass --precision {instead}."
        )


def _exported(path: Path, request: EngineRequest) -> Classifier:
    if path.suffix == ".onnx" and request.engine == "openvino":
        from forebear.engines.openvino_engine import OpenVinoEngine

        card = read_card(path)
        engine: Engine = OpenVinoEngine(path, threads=request.threads, card=card)
    elif request.engine in ("auto", "onnxruntime" if path.suffix == ".onnx" else "openvino"):
        engine, card = open_graph(path, request.threads)
    else:
        raise ValueError(
            f"engine={request.engine}: {truncated(path)} is an exported graph. Expected "
            f"{'onnxruntime or openvino' if path.suffix == '.onnx' else 'openvino'}. Pass one of "
            "these, or --engine auto."
        )
    return _classifier(engine, card, str(path))


def _classifier(engine: Engine, card: GraphCard, source: str, chosen: str = "") -> Classifier:
    return Classifier(
        engine=engine,
        preprocessing=card.preprocessing,
        classes=card.classes,
        network=card.network,
        source=source,
        identity=card.identity,
        note=card.provenance.get(NOTES, ""),
        chosen=chosen,
        calibration=card.calibration,
        multi_label=card.multi_label,
    )


def _from_cache(
    folder: Path, request: EngineRequest, precision: EnginePrecision, path: Path
) -> Classifier | None:
    """Returns a classifier of a kept graph, if the engine is known without torch."""
    graph = kept_graph(folder, INT8 if precision == "int8" else FP32)
    if graph is None:
        return None
    try:
        card = read_card(graph)
        name, chosen = request.engine, ""
        if name == "auto":
            choice = _kept_choice(folder, request, precision)
            if choice is None and precision == "int8":
                choice = _choose_int8(folder, card, request)
            if choice is None:
                return None
            name, chosen = choice.engine, choice.line()
        if name not in ("onnxruntime", "openvino") or missing_library(name):
            return None
        engine = graph_engine(name, graph, card, precision, request.threads, folder)
    except WeightsError:
        graph.unlink(missing_ok=True)  # damaged: it is written again, or asked for
        return None
    mark_used(folder)
    return _classifier(engine, card, str(path), chosen)


def _kept_choice(folder: Path, request: EngineRequest, precision: EnginePrecision) -> Choice | None:
    key = choice_key(precision, request.batch, request.threads)
    try:
        return parse_choice(read_choices(folder).get(key))
    except ValueError:
        return None


def _choose_int8(folder: Path, card: GraphCard, request: EngineRequest) -> Choice | None:
    """Measures the engines of a kept int8 graph; the fp32 graph next to it is the reference."""
    plain = kept_graph(folder, FP32)
    names = installed("int8")
    if plain is None or not names:
        return None
    pixels = check_pixels(card.preprocessing)
    wanted = graph_engine(names[0], plain, read_card(plain), "fp32", request.threads)(pixels)
    maker = Int8Maker(folder, card, request.threads)
    choice = choose(maker, names, pixels, wanted, batch=request.batch)
    key = choice_key("int8", request.batch, request.threads)
    write_choice(folder, key, choice_to_dict(choice))
    return choice


def _forget_notes(network: Network, path: Path) -> None:
    """Drops what was said when the weights of a run or of forebear's own file were first read."""
    from forebear.weights.load import native_file

    card = network.card
    if NOTES in card.provenance and path.exists() and native_file(path) is not None:
        kept = {name: value for name, value in card.provenance.items() if name != NOTES}
        network.card = replace(card, provenance=kept)


def _loaded(path: Path, network: str | None, which: str | None) -> Network:
    from forebear.weights.load import load

    if network is None:
        return load(path, which=which)
    return load(network, weights=str(path), which=which)


def opened_network(
    network: Network,
    request: EngineRequest,
    folder: Path | None = None,
    *,
    source: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> Classifier:
    """Returns the classifier of a network, with the engine that is asked for or measured.

    Args:
        network: In evaluation mode.
        request: The engine and the precision.
        folder: Of the cache, in which the graph and the choice are kept; None keeps nothing.
        source: The path that the network was loaded from.
        say: Takes a line that says which engine was chosen.

    Raises:
        ValueError: The network has no classifier.
        WeightsError: The network cannot be written as a graph, or no engine gives its results.
    """
    from forebear.engines.classifier import classifier_of
    from forebear.engines.make import reference

    check_request(request)
    _check_weights(network, source)
    precision: EnginePrecision = "fp32" if request.precision == "auto" else request.precision
    with EngineMaker(network, precision, request.threads, folder, request.device) as maker:
        if request.engine != "auto":
            return classifier_of(maker.make(request.engine), network, source)
        plain = classifier_of(maker.make("torch"), network, source)  # refuses features
        if request.device != "cpu":  # torch.compile was not faster: results/inference_gpu.md
            return plain
        names = installed(precision)
        if names == ["torch"]:
            return plain
        choice = choose(maker, names, *reference(network), batch=request.batch)
        if folder is not None:
            key = choice_key(precision, request.batch, request.threads)
            write_choice(folder, key, choice_to_dict(choice))
        say(choice.line())
        return replace(
            plain, engine=maker.make(choice.engine), chosen=choice.line(), measured_now=True
        )


def _check_weights(network: Network, source: str) -> None:
    from forebear.network.finite import first_not_finite

    array = first_not_finite(network)
    if array is not None:
        raise WeightsError(
            f"{truncated(source or network.table.name)}: its array {array} has values that are not "
            "finite, so its results are not finite either. Expected finite weights. Pass other "
            "weights."
        )


def installed(precision: EnginePrecision) -> list[EngineName]:
    """Returns the engines that are measured: installed, and able to compute in a precision."""
    return [
        name for name in MEASURED if precision in PRECISIONS[name] and not missing_library(name)
    ]
