"""Makes the contenders of a comparison of speeds.

They are forebear's engines, the same networks of other libraries, and training steps. A contender
that cannot run as it is asked to raises ValueError with the reason.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from forebear.engines.choose import TIE, TOLERANCES
from forebear.engines.compare import difference
from forebear.engines.engine import LIBRARIES, EngineName, missing_library
from forebear.engines.make import EngineMaker, reference
from forebear.engines.open import PRECISIONS
from forebear.engines.torch_engine import TorchEngine
from forebear.network.compiled import compiled as compile_module
from forebear.network.network import Network
from forebear.tables.registry import NETWORKS, find
from forebear.tasks.machine.device import Precision
from forebear.text import one_line, truncated

ENGINES: tuple[EngineName, ...] = ("torch", "compile", "onnxruntime", "openvino")
TORCH: tuple[EngineName, ...] = ("torch", "compile")  # they train, and they run on a GPU
PEERS = ("torchvision", "timm", "keras")
# The libraries that have a family's networks under the same names. timm repeats torchvision's
# networks; its own are not in torchvision. Those of slim and the papers are in none of the three.
EQUALS: dict[str, tuple[str, ...]] = {
    "torchvision": ("torchvision", "timm"),
    "timm": ("timm",),
    "keras": ("keras",),
}

Step = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What each step of a comparison computes, and where."""

    batch: int  # images
    side: int  # height of the input in pixels, and its width unless `width` is given
    backward: bool  # whether it is a training step, from the images to all gradients
    device: torch.device
    precision: Precision
    width: int | None = None  # width of the input in pixels; None: as side

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self.side, self.width or self.side

    @property
    def dtype(self) -> torch.dtype:
        """Of the products."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32


def full_name(name: str, say: Callable[[str], None] = lambda line: None) -> str:
    """Returns the full name of a published network, such as torchvision/resnet50 for resnet50.

    Args:
        name: With or without its family. Without it, the first family of the registry that has
            the name is taken.
        say: Takes a line if several families have the name.

    Raises:
        ValueError: The name is unknown, or that of a table file.
    """
    if name.endswith((".toml", ".json")):
        raise ValueError(
            f"{truncated(name)}: a comparison does not take table files. Expected names of "
            "published networks. Pass names from forebear list, or time one table and one batch "
            "size without --engine, --against, --forward and --backward."
        )
    found = [known for known in NETWORKS if known.partition("/")[2] == name]
    if not found:
        find(name)  # explains an unknown name
        return name
    if len(found) > 1:
        say(f"{name}: {found[0]} is compared. {' and '.join(found[1:])} have this name too.")
    return found[0]


def equal_network(peer: str, name: str) -> str:
    """Returns the name that a peer has for the network of a full name.

    Raises:
        ValueError: The peer has no equal network.
    """
    family, _, bare = name.partition("/")
    peers = EQUALS.get(family, ())
    if peer in peers:
        return bare
    if not peers:
        raise ValueError(f"{name} has no equal network in {', '.join(PEERS[:-1])} or {PEERS[-1]}")
    raise ValueError(
        f"{peer} has no network that equals {name}; the {family} networks are compared with "
        f"{' and '.join(peers)}"
    )


def reason(error: BaseException) -> str:
    """Returns why a contender cannot run, as one line: the first one of the error's text."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return truncated(one_line(first), 300) or type(error).__name__


def engine_step(network: Network, engine: EngineName, conditions: Conditions) -> Step:
    """Returns a step of one of forebear's engines.

    The logits of an engine are first compared with those of eager PyTorch in fp32. Weights are
    random, so that the logits of two classes may be as near as the precision's rounding: such
    classes count as the same.

    Args:
        network: In evaluation mode. It is not modified.
        engine: Its name.
        conditions: Of the comparison.

    Raises:
        ValueError: The engine is not installed, cannot run like this, or gives other logits.
    """
    _check_engine(engine, conditions)
    if conditions.backward:
        plan = network.plan
        return training_step(
            network,
            conditions,
            compiled=engine == "compile",
            channels=plan.in_channels,
            classes=plan.num_classes or 1,
        )
    network = _sized(network, conditions.shape)
    given, wanted = reference(network)
    most, least = TOLERANCES[conditions.precision]
    with EngineMaker(network, conditions.precision, device=conditions.device) as maker:
        run = maker.make(engine)
        apart = difference(run(given), wanted, TIE if conditions.precision == "fp32" else most)
    if not apart.within(most, least):
        raise ValueError(
            f"its logits differ from those of eager PyTorch by {apart.largest:.1e} of the largest "
            f"logit, where {most:.0e} is allowed in {conditions.precision}"
        )
    pixels = _pixels(network, conditions)
    if isinstance(run, TorchEngine):
        there = torch.from_numpy(pixels).to(conditions.device)
        return lambda: run.logits(there)
    return lambda: run(pixels)


def _check_engine(engine: EngineName, conditions: Conditions) -> None:
    if missing_library(engine):
        extra, library = LIBRARIES[engine]
        raise ValueError(f"{library} is not installed; run pip install 'forebear[{extra}]'")
    if engine not in TORCH and conditions.backward:
        raise ValueError(f"{engine} has no backward pass")
    if engine not in TORCH and conditions.device.type != "cpu":
        raise ValueError(f"{engine} runs on the CPU, not on {conditions.device.type}")
    known = PRECISIONS[engine]
    if conditions.precision not in known:
        raise ValueError(f"{engine} computes in {' and '.join(known)}, not {conditions.precision}")


def _pixels(network: Network, conditions: Conditions) -> NDArray[np.uint8]:
    shape = (conditions.batch, *conditions.shape, network.preprocessing.channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _sized(network: Network, shape: tuple[int, int]) -> Network:
    if shape == network.preprocessing.shape:
        return network
    found = copy.copy(network)
    height, width = shape
    rule = replace(network.preprocessing, size=height, side=height, width=width, resize="square")
    found.card = replace(network.card, preprocessing=rule)
    return found


def training_step(
    model: nn.Module,
    conditions: Conditions,
    *,
    compiled: bool = False,
    channels: int = 3,
    classes: int = 1000,
) -> Step:
    """Returns a step from images to the gradients of the cross-entropy, under autocast in bf16.

    Args:
        model: Gives logits. It is not modified.
        conditions: Of the comparison.
        compiled: Whether torch.compile compiles it.
        channels: Of the images.
        classes: Of the logits.
    """
    model = _moved(copy.deepcopy(model).train(), conditions.device, torch.float32)
    run = compile_module(model) if compiled else model
    images = _images(conditions, channels, torch.float32)
    labels = torch.randint(classes, (conditions.batch,), device=conditions.device)
    lower = torch.autocast(
        conditions.device.type, torch.bfloat16, enabled=conditions.precision == "bf16"
    )

    def step() -> None:
        with lower:
            loss = F.cross_entropy(run(images).float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=True)

    return step


def _moved(model: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    layout = torch.channels_last
    return model.to(device, dtype).to(memory_format=layout)  # type: ignore[call-overload, no-any-return]


def _images(conditions: Conditions, channels: int, dtype: torch.dtype) -> Tensor:
    shape = (conditions.batch, channels, *conditions.shape)
    images = torch.randn(shape, device=conditions.device, dtype=dtype)
    return images.contiguous(memory_format=torch.channels_last)


def peer_step(network: Network, peer: str, name: str, conditions: Conditions) -> Step:
    """Returns a step of the same network of another library.

    Args:
        network: Of forebear's, to compare the number of parameters with.
        peer: The library.
        name: The full name of the network.
        conditions: Of the comparison.

    Raises:
        ValueError: The library has no equal network, is not installed, or cannot run like this.
    """
    bare = equal_network(peer, name)
    if peer == "keras":
        return _keras_step(network, bare, conditions)
    model: nn.Module = _made(_imported(peer), peer, bare)
    _check_equal(network, peer, bare, [list(one.shape) for one in model.parameters()])
    if conditions.backward:
        return training_step(model, conditions)
    model = _moved(model.eval(), conditions.device, conditions.dtype)
    images = _images(conditions, 3, conditions.dtype)

    def step() -> None:
        with torch.inference_mode():
            model(images)

    return step


def _imported(module: str) -> ModuleType:
    library = module.partition(".")[0]
    if importlib.util.find_spec(library) is None:
        raise ValueError(f"{library} is not installed; run pip install {library}")
    try:
        return importlib.import_module(module)
    except Exception as error:  # RuntimeError of a build for another torch, ImportError, OSError
        raise ValueError(
            f"{library} cannot be imported ({reason(error)}); install a build for this machine "
            f"and torch {torch.__version__}"
        ) from error


def _made(library: ModuleType, peer: str, bare: str) -> Any:
    if peer == "timm":
        if not library.is_model(bare):
            raise ValueError(_lacking(library, peer, bare))
        return library.create_model(bare)
    make = getattr(library.models, bare, None)
    if make is None:
        raise ValueError(_lacking(library, peer, bare))
    return make(weights=None)


def _lacking(library: ModuleType, peer: str, bare: str) -> str:
    return f"{peer} {getattr(library, '__version__', '')} has no network {bare}"


def _check_equal(network: Network, peer: str, bare: str, shapes: Sequence[Sequence[int]]) -> None:
    ours = sum(one.numel() for one in network.parameters())
    theirs = sum(math.prod(shape) for shape in shapes)
    if ours != theirs:
        raise ValueError(
            f"{bare} of {peer} is another network: it has {theirs:,} parameters instead of {ours:,}"
        )


def _keras_step(network: Network, bare: str, conditions: Conditions) -> Step:
    if conditions.backward:
        raise ValueError("keras is compared in forward passes only")
    if conditions.device.type != "cpu" or conditions.precision != "fp32":
        raise ValueError(
            "keras is compared on the CPU in fp32 only, not on "
            f"{conditions.device.type} in {conditions.precision}"
        )
    keras = _imported("keras")
    make = getattr(keras.applications, bare, None)
    if make is None:
        raise ValueError(_lacking(keras, "keras", bare))
    height, width = conditions.shape
    model = make(weights=None, input_shape=(height, width, 3), classifier_activation=None)
    _check_equal(network, "keras", bare, [one.shape for one in model.trainable_weights])
    draws = np.random.default_rng(0)
    images = draws.standard_normal((conditions.batch, height, width, 3)).astype(np.float32)
    model.predict(images, verbose=0)
    return lambda: model.predict_on_batch(images)
