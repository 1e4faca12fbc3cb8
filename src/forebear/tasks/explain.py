"""Explains an answer of a network by a map: which places of the image speak for a class.

Two methods are there. Grad-CAM (Selvaraju et al. 2017, equations 1 and 2) weights the maps at an
end point by the mean gradient of the logit. Occlusion (Zeiler and Fergus 2014, section 4.2) hides
one square after the other and takes no gradient, so the two fail in different ways. captum computes
both; it is the optional extra `explain`. `explain_sheet` draws the maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from forebear.data.images.preprocess import fit, normalise, to_image
from forebear.errors import ForebearError, WeightsError, near_misses
from forebear.network.hooks import collect, find_paths
from forebear.network.network import Network
from forebear.network.plan.cost import measure
from forebear.tables.imagenet_classes import synset_name
from forebear.text import truncated

Method = Literal["grad-cam", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)

_WINDOWS = 5  # squares of the occlusion next to each other on a side of the image
_STEPS = 3  # positions of a square within its own side
_BATCH = 4  # occluded images at a time; more of them take longer on a CPU
_GREY = 128  # value of the pixels of a square; Zeiler and Fergus hide by grey too
_SHOWN = 10  # class names in an error message


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explanation:
    """Which places of an image speak for a class, and what the network answers."""

    method: Method
    end_point: str  # where Grad-CAM took the maps; "" for occlusion
    window: int  # pixels: side of the square that occlusion moves; 0 for Grad-CAM
    # [h, w] at the network's input size. Grad-CAM: 0 or more, without a unit. Occlusion: by how
    # much the probability falls if this place is hidden; below 0 if it rises.
    map: NDArray[np.float32]
    pixels: NDArray[np.uint8]  # [h, w, C]: the image as the network sees it, RGB or greyscale
    # [classes], in the order of the logits, with the temperature if one was fitted
    probabilities: NDArray[np.float32]
    number: int  # of the class that is explained
    names: tuple[str, ...]  # of the classes; empty if they are unknown

    @property
    def class_name(self) -> str:
        """The name of the class that is explained, or its number if the names are unknown."""
        return self._name(self.number)

    @property
    def probability(self) -> float:
        """The probability of the class that is explained, from 0 to 1."""
        return float(self.probabilities[self.number])

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Returns the names and the probabilities of the most probable classes, the best first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self._name(int(at)), float(self.probabilities[at])) for at in order]

    def _name(self, number: int) -> str:
        return self.names[number] if self.names else str(number)


def explain(
    network: Network,
    image: Any,
    *,
    method: Method = "grad-cam",
    end_point: str | None = None,
    class_name: str | None = None,
) -> Explanation:
    """Returns a map that shows which places of an image speak for a class.

    The network is used in evaluation mode. Its modes, gradients and hooks are the same afterwards.

    Args:
        network: A network with a classifier and a global pool.
        image: What `Network.preprocess` takes: a path, the bytes of a file, a PIL image, or uint8
            [H, W, C] or [H, W].
        method: "grad-cam" or "occlusion".
        end_point: Where Grad-CAM takes the maps, any name of `Network.end_points` with a map.
            None takes the last map before the pool.
        class_name: The class to explain: a name, the English word of an ImageNet synset, or a
            number if the network has no names. None takes the most probable class.

    Raises:
        DataError: The image cannot be read.
        ForebearError: captum is not installed.
        TypeError: The object is not an image.
        ValueError: The network has no classifier, or the method, the end point or the class is
            unknown, or the end point has no map.
        WeightsError: The results for the image are not finite.
    """
    check_method(method)
    check_network(network)
    number = None if class_name is None else class_number(network, class_name)
    name = check_end_point(network, end_point) if method == "grad-cam" else ""
    library = captum()
    rule = network.preprocessing
    pixels = fit(to_image(image, rule.channels, rule.levels), rule)
    with torch.inference_mode(False), torch.no_grad(), _evaluating(network) as forward:
        batch = _input(network, normalise(pixels, rule))
        probabilities = _probabilities(network, forward, batch)
        number = int(probabilities.argmax()) if number is None else number
        if name:
            layer = network.get_submodule(name)
            found, window = _grad_cam(library, forward, layer, batch, number), 0
        else:
            window = max(1, min(batch.shape[2:]) // _WINDOWS)
            probabilities_of = _answers(network)
            grey = _grey(network, (1, 1))
            found = _occlusion(library, forward, probabilities_of, batch, grey, number, window)
    if not np.isfinite(found).all():
        raise _not_finite(network, f"the {method} map")
    return Explanation(
        method=method,
        end_point=name,
        window=window,
        map=found,
        pixels=np.clip(np.rint(pixels), 0, 255).astype(np.uint8),
        probabilities=probabilities,
        number=number,
        names=network.classes,
    )


def captum() -> Any:
    """Imports and returns `captum.attr`.

    Raises:
        ForebearError: It is not installed.
    """
    try:
        import captum.attr as library
    except ImportError as error:
        raise ForebearError(
            f"captum cannot be imported ({error}). Expected the library that explains. "
            "Run: pip install 'forebear[explain]'"
        ) from error
    return library


def check_method(method: str) -> None:
    """Checks the name of a method.

    Raises:
        ValueError: It is unknown.
    """
    if method not in METHODS:
        raise ValueError(
            f"method={method!r}: expected one of {', '.join(METHODS)}. Pass one of these."
            f"{near_misses(method, METHODS)}"
        )


def check_network(network: Network) -> None:
    """Checks that a network gives one logit for each class.

    Raises:
        ValueError: It has no classifier or no global pool.
    """
    if network.plan.num_classes is None or not network.plan.global_pool:
        raise ValueError(
            f"{network.table.name} has no classifier or no global pool, so it gives features. "
            "Expected one logit for each class. Pass weights with a classifier."
        )


def class_number(network: Network, name: str) -> int:
    """Returns the index of the logit of a class.

    Args:
        network: A network with a classifier.
        name: Its name, the English word of an ImageNet synset, or a number if there are no names.

    Raises:
        ValueError: The class is unknown. The message suggests similar names.
    """
    names = network.classes or tuple(map(str, range(network.plan.num_classes or 0)))
    words = [synset_name(known) or known for known in names]
    for known in (names, words):
        if name in known:
            return known.index(name)
    few = ", ".join(truncated(known, 60) for known in words[:_SHOWN])
    raise ValueError(
        f"class {truncated(name)!r}: {truncated(network.table.name)} has no class of that name. "
        f"Expected one of {few}{', ...' if len(names) > _SHOWN else ''}. Pass one of these."
        f"{near_misses(name, {**dict.fromkeys(words), **dict.fromkeys(names)})}"
    )


def maps(network: Network) -> list[str]:
    """Returns the end points with a map of more than one value, from the root to the pool.

    The layers and units inside the blocks have maps too; they are not listed.
    """
    shapes = {row.path: row.shape for row in measure(network.plan, *network.preprocessing.shape)}
    layers = (*network.plan.root, *network.plan.body)
    paths = [layer.path for layer in layers if layer.kind != "dropout"]
    for block, units in network.plan.blocks:
        shapes[block] = shapes[units[-1].path]
        paths.append(block)
    paths += [layer.path for layer in network.plan.head()]
    return [path for path in paths if path in shapes and shapes[path][1] * shapes[path][2] > 1]


def check_end_point(network: Network, name: str | None = None) -> str:
    """Returns the name of an end point with a map; None takes the last map before the pool.

    Raises:
        ValueError: The end point is unknown, or it has no map.
    """
    if name is None:
        return default_end_point(network)
    paths = find_paths(network, [name], "forebear")
    if name == "predictions":
        shape = [network.plan.num_classes or 0]
    else:
        grey = _grey(network, network.preprocessing.shape)
        with torch.no_grad(), _evaluating(network):
            shape = list(collect(network, grey, paths)[name].shape[1:])
    if len(shape) != 3 or shape[1] * shape[2] < 2:
        raise ValueError(
            f"end point {name}: its shape is {shape}, which is no map. Expected one of "
            f"{', '.join(maps(network))}, or a unit or layer inside. Pass one of these."
        )
    return name


def default_end_point(network: Network) -> str:
    """Returns the last map before the pool.

    This is the last block, or the norm after it in a network of version 2, or the last convolution
    with a map in a network without blocks. Selvaraju et al. 2017, section 3, choose the last
    convolutional layer.

    Raises:
        ValueError: The input is so small that no end point has a map.
    """
    others = {layer.path for layer in network.plan.body if layer.kind != "conv"}
    found = [path for path in maps(network) if path not in others]
    if not found:
        size = "x".join(map(str, network.preprocessing.shape))
        raise ValueError(
            f"{truncated(network.table.name)} has no map at an input size of {size} pixels. "
            "Expected an end point with more than one value. Pass --method occlusion."
        )
    return found[-1]


@contextmanager
def _evaluating(network: Network) -> Iterator[Callable[[Tensor], Tensor]]:
    """Puts the network in evaluation mode, and yields a function that gives its logits.

    autograd cannot use parameters that were made in inference mode, so copies replace them.
    """
    training = [module for module in network.modules() if module.training]
    tensors = chain(network.named_parameters(), network.named_buffers())
    copies = {name: tensor.clone() for name, tensor in tensors if tensor.is_inference()}
    network.eval()
    try:
        yield partial(functional_call, network, copies) if copies else network
    finally:
        for module in training:
            module.training = True


def _input(network: Network, values: NDArray[np.float32]) -> Tensor:
    weight = next(network.parameters())
    return torch.from_numpy(values)[None].to(weight.device, weight.dtype)


def _grey(network: Network, shape: tuple[int, int]) -> Tensor:
    """Returns the input of a grey image, [1, C, H, W]."""
    rule = network.preprocessing
    return _input(network, normalise(np.full((*shape, rule.channels), _GREY, np.uint8), rule))


def _probabilities(
    network: Network, forward: Callable[[Tensor], Tensor], batch: Tensor
) -> NDArray[np.float32]:
    logits = forward(batch).float()
    found: NDArray[np.float32] = _answers(network)(logits)[0].cpu().numpy()
    if not np.isfinite(found).all():
        raise _not_finite(network, "the logits")
    return found


def _grad_cam(
    library: Any,
    forward: Callable[[Tensor], Tensor],
    layer: nn.Module,
    batch: Tensor,
    number: int,
) -> NDArray[np.float32]:
    """Returns relu(sum_k mean(d logit / d map_k) map_k) at the size of the input, [h, w]."""
    method = library.LayerGradCam(forward, layer)
    coarse = method.attribute(batch, target=number, relu_attributions=True).detach().float()
    fine = F.interpolate(coarse, batch.shape[2:], mode="bilinear", align_corners=False)
    return fine[0, 0].cpu().numpy()


def _occlusion(
    library: Any,
    forward: Callable[[Tensor], Tensor],
    probabilities_of: Callable[[Tensor], Tensor],
    batch: Tensor,
    baseline: Tensor,
    number: int,
    window: int,
) -> NDArray[np.float32]:
    """Returns by how much the probability falls, as the mean over the squares on a pixel, [h, w].

    The probabilities are in float64, as in float32 one near 1 would not fall.
    """

    def probability(images: Tensor) -> Tensor:
        return probabilities_of(forward(images).double())

    step = max(1, window // _STEPS)
    found = library.Occlusion(probability).attribute(
        batch,
        sliding_window_shapes=(batch.shape[1], window, window),
        strides=(batch.shape[1], step, step),
        baselines=baseline.expand_as(batch),
        target=number,
        perturbations_per_eval=_BATCH,
    )
    values: NDArray[np.float32] = found[0, 0].float().cpu().numpy()
    return values


def _answers(network: Network) -> Callable[[Tensor], Tensor]:
    """Returns what turns logits [N, classes] into the probabilities that `predict` gives."""
    if network.multi_label:
        return torch.sigmoid
    fitted = network.card.calibration
    temperature = 1.0 if fitted is None else fitted.temperature
    return lambda logits: (logits / temperature).softmax(1)


def _not_finite(network: Network, what: str) -> WeightsError:
    return WeightsError(
        f"{truncated(network.table.name)}: {what} of the image are not finite. Expected finite "
        "numbers. Pass other weights, or another image."
    )


def methods_of(text: str) -> Sequence[Method]:
    """Returns the methods of a list such as "grad-cam,occlusion", each once, in its order.

    Raises:
        ValueError: One of them is unknown.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        check_method(name)
    return [name for name in dict.fromkeys(names) if name in METHODS]
