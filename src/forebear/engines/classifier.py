"""A classifier: an engine with the preprocessing and the class names of its network."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from forebear.data.images.preprocess import fit, to_image
from forebear.engines.engine import Engine, Pixels
from forebear.errors import RunError, WeightsError, ran_out
from forebear.network.calibration import UNKNOWN, Calibration, Score
from forebear.network.model_card import NOTES
from forebear.network.multi_label import MultiLabel
from forebear.tables.preprocessing import Preprocessing
from forebear.text import one_line, truncated

if TYPE_CHECKING:
    from forebear.network.network import Network

Guess = tuple[str, float]  # class name, probability


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """Answers images: decodes and fits them, runs the engine, and names the classes.

    It is made by `forebear.engines.open.open_classifier`, from a run, weights or an exported file.
    """

    engine: Engine
    preprocessing: Preprocessing
    classes: tuple[str, ...]  # in the order of the logits; empty if they are unknown
    network: str  # its name, such as resnet50
    source: str = ""  # path or name that it was opened from
    identity: str = ""  # differs for other weights
    note: str = ""  # what was taken of the file and what was left, or ""
    chosen: str = ""  # which engine was chosen, and why, or ""
    measured_now: bool = False  # whether the engines were measured for this classifier
    calibration: Calibration | None = None  # of the logits; None leaves the probabilities plain
    multi_label: MultiLabel | None = None  # if images can have several labels, or none

    def pixels(self, image: object) -> Pixels:
        """Returns one image as an engine takes it, [H, W, C] in 0..255.

        Args:
            image: A path, the bytes of a file, a PIL image or a uint8 array [H, W, C].

        Raises:
            DataError: The image cannot be read.
            TypeError: The object is not an image.
        """
        rule = self.preprocessing
        return fit(to_image(image, rule.channels, rule.levels), rule)

    def logits(self, pixels: Pixels, names: Sequence[str] = ()) -> NDArray[np.float32]:
        """Returns the logits of a batch, [N, classes].

        Args:
            pixels: Stacked results of `pixels`, [N, H, W, C].
            names: The names of the images, for an error.

        Raises:
            WeightsError: A result is not finite.
            RunError: Memory runs out.
        """
        try:
            logits = self.engine(pixels)
        except Exception as error:  # every runtime has exceptions of its own
            if not ran_out(error):
                raise
            raise RunError(
                f"memory ran out at a batch of {len(pixels)} images ({truncated(one_line(error))})."
                " Expected room for the feature maps of the batch. Pass a smaller --batch, or end "
                "other programs."
            ) from None
        wrong = ~np.isfinite(logits).reshape(len(logits), -1).all(1)
        if wrong.any():
            row = int(wrong.argmax())
            name = truncated(names[row]) if names else f"image {row}"
            raise WeightsError(
                f"{name}: the results of {self.network} are not finite. Expected finite logits. "
                "Pass other weights, or another image."
            )
        return logits

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the probabilities of each row, [N, classes].

        They are the softmax with the fitted temperature, or the sigmoid of each logit if the
        network is multi-label.
        """
        if self.multi_label is not None:
            return sigmoid(logits)
        return softmax(logits, 1.0 if self.calibration is None else self.calibration.temperature)

    def labels(self, logits: NDArray[np.float32]) -> list[tuple[str, ...]]:
        """Returns the labels of each row, the most probable first: those above their thresholds.

        Args:
            logits: [N, classes] of a multi-label network.
        """
        assert self.multi_label is not None
        least = np.array(self.multi_label.logits(), np.float32)
        order = np.argsort(-logits, axis=1, kind="stable")
        return [
            tuple(self.name_of(int(at)) for at in places if row[at] >= least[at])
            for row, places in zip(logits, order, strict=True)
        ]

    def unknown(self, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Returns whether each row has a score below the threshold of the calibration, [N].

        Args:
            logits: [N, classes].

        Raises:
            ValueError: There is no threshold, or a class has the name "unknown".
        """
        fitted = self.require_threshold()
        return scores(logits, fitted.temperature, fitted.score) < fitted.threshold

    @property
    def has_threshold(self) -> bool:
        """Whether `unknown` can answer."""
        single = self.multi_label is None and UNKNOWN not in self.classes
        return single and self.calibration is not None

    def require_threshold(self) -> Calibration:
        """Returns the calibration, which has the threshold below which images are unknown.

        Raises:
            ValueError: There is none, or a class has the name "unknown".
        """
        if self.multi_label is not None:
            raise ValueError(
                f"unknown: {truncated(self.source or self.network)} is multi-label, and an image "
                "that looks like none of its labels has none. Expected a network with one class an "
                "image. Leave unknown out."
            )
        if self.calibration is None:
            raise ValueError(
                f"unknown: {truncated(self.source or self.network)} has no threshold for unknown "
                "images. Expected weights with a calibration. Run forebear calibrate on labelled "
                "images that the network was not trained on."
            )
        if UNKNOWN in self.classes:
            raise ValueError(
                f"unknown: {truncated(self.source or self.network)} has a class named {UNKNOWN!r}. "
                "Expected other names, so that an unknown image differs from one of this "
                "class. Rename the class, or do without unknown."
            )
        return self.calibration

    def answers_as(self, *, unknown: bool = False) -> str:
        """Returns what differs if answers do: the identity of the weights and the calibration."""
        if self.multi_label is not None:
            text = f"{self.identity} {sorted(self.multi_label.as_dict().items())}"
            return hashlib.sha256(text.encode()).hexdigest()
        if self.calibration is None:
            return self.identity
        text = f"{self.identity} {sorted(self.calibration.as_dict().items())} {unknown}"
        return hashlib.sha256(text.encode()).hexdigest()

    def guesses(self, logits: NDArray[np.float32], top: int = 5) -> list[list[Guess]]:
        """Returns the most probable classes of each row, the best first.

        Args:
            logits: [N, classes].
            top: Classes per row; fewer if there are fewer.
        """
        shares = self.probabilities(logits)
        order = np.argsort(-shares, axis=1, kind="stable")[:, :top]
        return [
            [(self.name_of(int(at)), float(row[at])) for at in places]
            for row, places in zip(shares, order, strict=True)
        ]

    def name_of(self, number: int) -> str:
        """Returns the name of a class, or its number if the names are unknown."""
        return self.classes[number] if self.classes else str(number)

    def __call__(self, images: Sequence[object], top: int = 5) -> list[list[Guess]]:
        """Returns the most probable classes of each image, in one batch."""
        pixels: Any = np.stack([self.pixels(image) for image in images])
        return self.guesses(self.logits(pixels, [str(image) for image in images]), top)


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    """Returns the probabilities of each row, with the logits divided by the temperature."""
    shifted = np.exp((logits - logits.max(1, keepdims=True)) / np.float32(temperature))
    shares: NDArray[np.float32] = shifted / shifted.sum(1, keepdims=True)
    return shares


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the probability of each label, [N, classes], without overflow."""
    shares: NDArray[np.float32] = np.exp(-np.logaddexp(np.float32(0), -logits))
    return shares


def scores(logits: NDArray[np.float32], temperature: float, score: Score) -> NDArray[np.float64]:
    """Returns how much each row looks like the images that the network was trained on, [N].

    Args:
        logits: [N, classes].
        temperature: Of the logits.
        score: "probability" is the largest probability (Hendrycks and Gimpel 2017, "A baseline for
            detecting misclassified and out-of-distribution examples"); "energy" is the negative
            free energy, T logsumexp(logits / T) (Liu et al. 2020, "Energy-based
            out-of-distribution detection", equation 4).
    """
    best = logits.max(1, keepdims=True).astype(np.float64)
    total = np.exp((logits - best) / temperature).sum(1)
    found: NDArray[np.float64] = best[:, 0] + temperature * np.log(total)
    if score == "probability":
        found = 1 / total
    return found


def identity_of(network: Network) -> str:
    """Returns a SHA-256 of a network's arrays, which differs for other weights."""
    from forebear.weights.native_format import digest

    return digest(
        {name: array.detach().cpu().contiguous() for name, array in network.state_dict().items()}
    )


def classifier_of(engine: Engine, network: Network, source: Path | str = "") -> Classifier:
    """Returns the classifier of a network, with one of its engines.

    Raises:
        ValueError: The network has no classifier or no global pool.
    """
    if network.plan.num_classes is None or not network.plan.global_pool:
        raise ValueError(
            f"{network.table.name} has no classifier or no global pool, so it gives features. "
            "Expected one logit for each class. Pass weights with a classifier."
        )
    return Classifier(
        engine=engine,
        preprocessing=network.preprocessing,
        classes=network.classes,
        network=network.table.name,
        source=str(source),
        identity=identity_of(network),
        note=network.card.provenance.get(NOTES, ""),
        calibration=network.card.calibration,
        multi_label=network.card.multi_label,
    )
