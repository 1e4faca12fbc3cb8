"""What an exported graph says of itself: classes, preprocessing and where it comes from.

The text is JSON, in the ONNX metadata property "forebear". Reading it needs neither torch nor onnx.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from forebear.data.images.preprocess import normalise
from forebear.engines.engine import EnginePrecision, Pixels, as_dtype
from forebear.limits import INPUT_SIDE
from forebear.network.calibration import Calibration, calibration_from_dict
from forebear.network.model_card import ModelCard
from forebear.network.multi_label import MultiLabel, multi_label_from_dict
from forebear.tables.checks import is_count, refuse
from forebear.tables.files import preprocessing_from_dict, preprocessing_to_dict
from forebear.tables.preprocessing import Preprocessing
from forebear.untrusted import opened, parse_json
from forebear.weights.readers.errors import reading
from forebear.weights.readers.tensorflow.corruption import DamageError
from forebear.weights.readers.tensorflow.protobuf import fields

PROPERTY = "forebear"
FORMAT = "forebear graph 1"
_EXPECTED = "an ONNX file from forebear export"
_GRAPH = 7  # onnx.proto3: ModelProto.graph
_METADATA = 14  # onnx.proto3: ModelProto.metadata_props, a list of StringStringEntryProto


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCard:
    """The metadata of an exported graph.

    Raises:
        ValueError: A value is not possible.
    """

    network: str  # name of the table
    dialect: str
    preprocessing: Preprocessing
    classes: tuple[str, ...] = ()
    # pixels: [N, H, W, C] in 0..255 as `fit` gives them; images: [N, C, H, W] floats after all of
    # the preprocessing.
    takes: Literal["pixels", "images"] = "pixels"
    dtype: Literal["uint8", "float32"] = "uint8"  # of the input
    size: int = 224  # pixels: height of the input, and its width unless the preprocessing has one
    any_size: bool = False  # whether other input sizes work too
    precision: EnginePrecision = "fp32"
    identity: str = ""  # SHA-256 of the network's arrays
    metrics: Mapping[str, Any] = field(default_factory=dict)  # of the weights, as in a ModelCard
    provenance: Mapping[str, str] = field(default_factory=dict)  # source file, SHA-256, licence
    calibration: Calibration | None = None  # of the logits, which the graph gives as they are
    multi_label: MultiLabel | None = None  # if images can have several labels, or none

    def __post_init__(self) -> None:
        self.model_card()
        expected = f"an integer from 1 to {INPUT_SIDE:,}, in pixels"
        refuse(is_count(self.size, INPUT_SIDE), "card", "size", self.size, expected)
        for name, words in (
            ("takes", ("pixels", "images")),
            ("dtype", ("uint8", "float32")),
            ("precision", ("fp32", "bf16", "int8")),
        ):
            value = getattr(self, name)
            refuse(value in words, "card", name, value, f"one of {', '.join(words)}")

    def model_card(self) -> ModelCard:
        """Returns the card that the weights have.

        Raises:
            ValueError: A value is not possible.
        """
        return ModelCard(
            preprocessing=self.preprocessing,
            classes=self.classes,
            metrics=self.metrics,
            provenance=self.provenance,
            calibration=self.calibration,
            multi_label=self.multi_label,
        )

    def text(self) -> str:
        """Returns the card as JSON."""
        values = asdict(replace(self, metrics=dict(self.metrics), provenance=dict(self.provenance)))
        values["preprocessing"] = preprocessing_to_dict(self.preprocessing)
        if self.calibration is None:  # versions of forebear before calibration read the rest
            del values["calibration"]
        if self.multi_label is None:  # older versions refuse a card that has it
            del values["multi_label"]
        return json.dumps({"format": FORMAT, **values}, ensure_ascii=False)

    def properties(self) -> dict[str, str]:
        """Returns what a graph says of itself, by name; other programs read all but the first."""
        found = {
            PROPERTY: self.text(),
            "classes": json.dumps(self.classes, ensure_ascii=False),
            "preprocessing": json.dumps(preprocessing_to_dict(self.preprocessing)),
            "licence": str(self.provenance.get("licence", "")),
        }
        if self.calibration is not None:
            found["calibration"] = json.dumps(self.calibration.as_dict())
        if self.multi_label is not None:
            found["multi_label"] = json.dumps(self.multi_label.as_dict())
        return found

    def graph_input(self, pixels: Pixels) -> NDArray[Any]:
        """Returns what the graph takes for `fit` images, [N, H, W, C] in 0..255."""
        if self.takes == "images":
            return np.stack([normalise(one, self.preprocessing) for one in pixels])
        return as_dtype(pixels, np.dtype(self.dtype))


def parse_card(text: str) -> GraphCard:
    """Returns the card of a text that `GraphCard.text` made.

    Raises:
        ValueError: The text is not such a card.
    """
    found = parse_json(text)
    if not isinstance(found, dict) or found.pop("format", None) != FORMAT:
        raise ValueError(f"its property {PROPERTY!r} is not {FORMAT!r}")
    rule = preprocessing_from_dict(found.pop("preprocessing", None))
    calibration = calibration_from_dict(found.pop("calibration", None))
    several = multi_label_from_dict(found.pop("multi_label", None))
    classes = found.pop("classes", ())
    try:
        return GraphCard(
            preprocessing=rule,
            classes=tuple(classes),
            calibration=calibration,
            multi_label=several,
            **found,
        )
    except TypeError as error:
        raise ValueError(f"its property {PROPERTY!r} has other keys ({error})") from error


def read_card(path: Path) -> GraphCard:
    """Returns the card of an ONNX file. The graph itself is not read.

    Raises:
        WeightsError: The file is missing, or it is no ONNX model that forebear wrote.
    """
    with reading(path, _EXPECTED):
        text = _properties(path).get(PROPERTY)
        if text is None:
            raise ValueError("it names no classes and no preprocessing as forebear does")
        return parse_card(text)


def is_foreign(path: Path) -> bool:
    """Whether a file is a whole ONNX model that another program wrote: it has no card."""
    if path.suffix != ".onnx":
        return False
    try:
        return PROPERTY not in _properties(path, _GRAPH)
    except (DamageError, OSError, ValueError):
        return False  # `read_card` says what is wrong with it


def is_exported(path: Path) -> bool:
    """Whether a file is a graph that stands for a network, and none that is read as weights."""
    return path.suffix in (".onnx", ".xml") and not is_foreign(path)


def _properties(path: Path, needed: int = _METADATA) -> dict[str, str]:
    """Returns the metadata properties of a model, of which only they are read from the disk.

    Raises:
        DamageError: The model is damaged, or has the field `needed` nowhere.
    """
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise DamageError("it is empty")
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    found, there = {}, needed == _METADATA
    for entry in fields(whole):
        there = there or entry.number == needed
        if entry.number == _METADATA:
            pair = {one.number: bytes(one.message()) for one in fields(entry.message())}
            found[pair.get(1, b"").decode()] = pair.get(2, b"").decode()
    if not there:
        raise DamageError("it has no graph")
    return found
