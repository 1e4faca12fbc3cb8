"""The contenders of benchmarks/inference.py: forebear's engines and its peers, on one network."""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import forebear
from forebear.data.images.preprocess import fit, normalise, to_image
from forebear.engines.choose import TIE, TOLERANCES, Maker, choose
from forebear.engines.compare import difference, synthetic_images
from forebear.engines.engine import EngineName, EnginePrecision
from forebear.engines.graph_cache import FP32, INT8
from forebear.engines.make import EngineMaker, Int8Maker
from forebear.engines.onnx_model import write_onnx
from forebear.engines.onnxruntime_engine import OnnxRuntimeEngine
from forebear.engines.open import installed
from forebear.engines.openvino_import import import_nncf, import_openvino
from forebear.engines.quantize import quantize
from forebear.hardware import processor

# timm's name for the same function; its resnet50 strides elsewhere than TF-Slim's and Keras'.
TIMM = {
    "keras/ResNet50V2": "resnetv2_50",
    "torchvision/resnet50": "resnet50",
    "torchvision/resnext50_32x4d": "resnext50_32x4d",
    "torchvision/resnet18": "resnet18",
}
KERAS = {"keras/ResNet50V2": "ResNet50V2", "keras/ResNet50": "ResNet50"}  # in its applications
CALIBRATION = 32  # images that the ranges of int8 are measured on
PLAIN = "network.onnx"  # the network as it is, for the peers
OPERATORS = torch.library.Library("torchvision", "FRAGMENT")  # they live as long as it does
OURS = "forebear: "  # before the name of one of its engines
BATCHES = (1, 16)
REST = 0.02  # seconds between contenders, in which another runtime's waiting threads fall asleep
LEAST, MOST = 7, 40  # rounds
QUIET = 0.05  # share of the cores that other programs may take in a round
Call = Callable[[], NDArray[np.float32]]
Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Row:
    """What one network took at one batch size and precision."""

    network: str
    batch: int
    precision: EnginePrecision
    auto: str  # the contender that forebear chose, or ""
    times: dict[str, list[float]]  # ms per image of each contender, a value for each round
    others: float  # largest share of the cores that other programs took in these rounds
    differences: dict[str, float]  # largest of a logit, relative to the largest logit
    left_out: dict[str, str] = field(default_factory=dict)  # contenders with other results, why


def add_torchvision_operators() -> None:
    """Declares what `import torchvision` expects, where its C++ part is missing."""
    for name in ("nms", "qnms"):
        with suppress(RuntimeError):  # it is there
            OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def random_network(name: str) -> forebear.Network:
    """Returns a network whose activations and logits are spread as a trained one's."""
    torch.manual_seed(0)
    network = forebear.create(name)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    ends: list[Any] = []
    for unit in network.plan.units():  # as in trained ones, a unit changes its input a little
        last = f"{unit.convs[-1].path}.{'norm' if unit.convs[-1].norm else 'conv'}"
        ends.append(network.get_submodule(last).weight)
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.7, 1.3)
        nn.init.normal_(norm.bias, std=0.1)
        norm.momentum = 1.0
    network.train()
    with torch.no_grad():
        for weight in ends:
            weight *= 0.1
        network(torch.from_numpy(images(network, max(BATCHES))[1]))
        for norm in norms:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn(norm.num_features)
            norm.running_var *= torch.empty(norm.num_features).uniform_(0.8, 1.25)
    return network.eval()


def images(network: forebear.Network, count: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Returns pixels as forebear's engines take them, and the network's inputs made of them."""
    rule = network.preprocessing
    made = synthetic_images(count, rule.size if rule.resize == "none" else 2 * rule.size)
    pixels = np.stack([fit(to_image(one, rule.channels, rule.levels), rule) for one in made])
    return pixels, np.stack([normalise(one, rule) for one in pixels])


def torch_peer(model: nn.Module, dtype: torch.dtype, inputs: NDArray[np.float32]) -> Call:
    given = torch.from_numpy(inputs).to(dtype).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def call() -> Logits:
        logits: Logits = model(given).float().numpy()
        return logits

    return call


def compiled_peer(model: nn.Module, dtype: torch.dtype, inputs: NDArray[np.float32]) -> Call:
    import torch._inductor.config as inductor

    inductor.freezing = True
    inductor.compile_threads = 1  # no processes that stay beside the contenders
    return torch_peer(torch.compile(model, dynamic=False), dtype, inputs)


def keras_peer(name: str, pixels: NDArray[Any]) -> Call:
    """Keras' own network with random weights, as a tf.function that XLA compiles."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras
    import tensorflow

    with suppress(RuntimeError):  # the first network has set it
        tensorflow.config.threading.set_intra_op_parallelism_threads(processor().cores)
    model = getattr(keras.applications, name)(weights=None)
    run = tensorflow.function(lambda x: model(x, training=False), jit_compile=True)
    given = tensorflow.constant(pixels.astype(np.float32))
    return lambda: np.asarray(run(given))


def onnxruntime_peer(graph: Path, inputs: NDArray[np.float32]) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = processor().cores
    session = onnxruntime.InferenceSession(str(graph), options, ["CPUExecutionProvider"])

    def call() -> Logits:
        logits: Logits = session.run(None, {"images": inputs})[0]
        return logits

    return call


def openvino_peer(graph: Path, precision: EnginePrecision, inputs: NDArray[np.float32]) -> Call:
    openvino = import_openvino()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": processor().cores,
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16", "int8": "f32"}[precision],
    }
    model = openvino.Core().compile_model(str(graph), "CPU", settings)
    request = model.create_infer_request()

    def call() -> Logits:
        return np.array(request.infer([inputs], share_inputs=True)[model.output(0)], np.float32)

    return call


def int8_peers(
    graph: Path, folder: Path, calibration: NDArray[np.float32], inputs: NDArray[np.float32]
) -> dict[str, Call]:
    """Returns the runtimes with graphs that their own tools quantise, with the tools' defaults."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.images = iter(calibration)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            image = next(self.images, None)
            return None if image is None else {"images": image[None]}

    theirs = folder / "onnxruntime-int8.onnx"
    quantize_static(str(graph), str(theirs), Reader(), per_channel=True)
    nncf = import_nncf()
    images = nncf.Dataset([image[None] for image in calibration], lambda one: {"images": one})
    model = nncf.quantize(onnx.load(str(graph)), images, subset_size=len(calibration))
    onnx.save(model, str(folder / "nncf.onnx"))
    return {
        "onnxruntime": onnxruntime_peer(theirs, inputs),
        "openvino": openvino_peer(folder / "nncf.onnx", "int8", inputs),
    }


def peers(
    title: str,
    network: forebear.Network,
    graph: Path,
    precision: EnginePrecision,
    inputs: NDArray[np.float32],
) -> dict[str, Call]:
    """Returns the peers as their users run them, on the network as it is."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    lasts: Any = torch.channels_last  # mypy knows the argument of modules only as a tensor's
    model = deepcopy(network).to(dtype).to(memory_format=lasts)
    found = {
        "torch": torch_peer(model, dtype, inputs),
        "compile": compiled_peer(deepcopy(model), dtype, inputs),
        "openvino": openvino_peer(graph, precision, inputs),
    }
    if precision == "fp32":
        found["onnxruntime"] = onnxruntime_peer(graph, inputs)
        with suppress(ImportError):
            if title in KERAS:
                found["keras"] = keras_peer(KERAS[title], inputs.transpose(0, 2, 3, 1))
    with suppress(ImportError):
        add_torchvision_operators()
        import timm

        if network_name := TIMM.get(title):
            theirs = timm.create_model(network_name).eval().to(dtype).to(memory_format=lasts)
            found["timm"] = torch_peer(theirs, dtype, inputs)
    return found


def measure(
    calls: Mapping[str, Call], batch: int, seconds: float
) -> tuple[dict[str, list[float]], float]:
    """Returns ms per image of each, in rounds, and the others' share of the cores in the worst.

    Every round has another order. Rounds in which other programs computed count only where there
    are too few without.
    """
    rounds: list[tuple[float, dict[str, float]]] = []  # what others took of the cores; ms
    order, draws = list(calls), random.Random(0)
    for call in calls.values():
        call()
    begun = time.perf_counter()
    while len(rounds) < MOST:
        past = time.perf_counter() - begun
        quiet = sum(others < QUIET for others, _ in rounds)
        if len(rounds) >= LEAST and (past > 2 * seconds or (past > seconds and quiet >= LEAST)):
            break
        draws.shuffle(order)
        all_before, own_before = _computed(), time.process_time()
        taken = {name: _taken(calls[name], batch) for name in order}
        own = time.process_time() - own_before
        spent = time.perf_counter() - begun - past
        rounds.append(((_computed() - all_before - own) / spent / processor().cores, taken))
    rounds.sort(key=lambda one: one[0])
    kept = max(LEAST, sum(others < QUIET for others, _ in rounds))
    times = {name: [round(taken[name], 4) for _, taken in rounds[:kept]] for name in calls}
    return times, max(rounds[kept - 1][0], 0.0)


def _taken(call: Call, batch: int) -> float:
    """Milliseconds per image."""
    time.sleep(REST)
    if batch > 1:
        return _milliseconds(call) / batch
    call()  # fetches the weights into the cache, for all alike
    return statistics.median(_milliseconds(call) for _ in range(3))


def _computed() -> float:
    """Seconds that all programs of the machine have computed; those of virtual hosts too."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=9)[1:9]
    user, nice, system, _, _, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _milliseconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def contest(name: str, seconds: float) -> list[Row]:
    """Returns the rows of one network: every batch size and precision."""
    torch.set_num_threads(processor().cores)
    network = random_network(name)
    precisions: list[EnginePrecision] = ["fp32", "bf16"] if processor().bf16 else ["fp32"]
    precisions.append("int8")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_onnx(network, place / PLAIN, pixels=False, lowered=False)
        return [
            _row(name, network, place, precision, batch, seconds)
            for precision in precisions
            for batch in BATCHES
        ]


def _row(
    name: str,
    network: forebear.Network,
    place: Path,
    precision: EnginePrecision,
    batch: int,
    seconds: float,
) -> Row:
    """Measures one row; `place` is a folder for graphs."""
    torch.compiler.reset()
    pixels, inputs = images(network, max(BATCHES))
    with torch.inference_mode():
        wanted = network(torch.from_numpy(inputs)).numpy()
    auto, left_out, calls = "", {}, {}
    with _maker(network, precision, place) as maker:
        names = installed(precision)
        try:  # before the peers' threads are there
            choice = choose(maker, names, pixels, wanted, batch=batch, seconds=2.0)
            auto = OURS + choice.engine
            left_out = {OURS + row.engine: row.fault for row in choice.rows if row.fault}
        except forebear.WeightsError as error:
            left_out = {OURS + engine: str(error) for engine in names}
        for engine in names:
            calls[OURS + engine] = _engine(maker, engine, pixels[:batch])
    if precision == "int8":
        calibration = images(network, CALIBRATION)[1]
        calls |= int8_peers(place / PLAIN, place, calibration, inputs[:batch])
    else:
        calls |= peers(name, network, place / PLAIN, precision, inputs[:batch])
    differences = {}
    for contender in [one for one in calls if one not in ("timm", "keras")]:  # own weights
        apart = difference(calls[contender](), wanted[:batch], TIE)
        differences[contender] = apart.largest
        if not apart.within(*TOLERANCES[precision]):
            left_out.setdefault(
                contender, f"{apart.largest:.1e}, {apart.same_class}/{batch} classes"
            )
    times, others = measure(calls, batch, seconds)
    return Row(name, batch, precision, auto, times, others, differences, left_out)


@contextmanager
def _maker(network: forebear.Network, precision: EnginePrecision, place: Path) -> Iterator[Maker]:
    """Makes forebear's engines; int8 graphs are quantised once, with images of their own."""
    if precision != "int8":
        with EngineMaker(network, precision) as maker:
            yield maker
        return
    card = write_onnx(network, place / FP32)
    if not (place / INT8).exists():
        pixels, _ = images(network, CALIBRATION)
        classes = OnnxRuntimeEngine(place / FP32)(pixels).argmax(1).tolist()
        quantize(place / FP32, place / INT8, pixels, pixels, classes, limit=100)
    yield Int8Maker(place, card, None)


def _engine(maker: Maker, name: EngineName, pixels: NDArray[Any]) -> Call:
    engine = maker.make(name)
    return lambda: engine(pixels)


def normalising() -> float:
    """Milliseconds per image of the peers' normalisation with numpy, which no row counts."""
    network = forebear.create("torchvision/resnet50")
    pixels, _ = images(network, 1)
    calls = {"": lambda: normalise(pixels[0], network.preprocessing)}
    return statistics.median(measure(calls, 1, 0.0)[0][""])
