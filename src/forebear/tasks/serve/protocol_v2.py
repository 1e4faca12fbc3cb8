"""The Open Inference Protocol, version 2, with its extensions for binary data and classification.

https://github.com/kserve/open-inference-protocol, and for the extensions
https://github.com/triton-inference-server/server/tree/main/docs/protocol.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.limits import NESTING, REQUEST_IMAGES
from forebear.text import truncated
from forebear.untrusted import parse_json

HEADER = "inference-header-content-length"
PROBABILITIES, UNKNOWN = "probabilities", "unknown"  # names of outputs
_DTYPES = {"UINT8": np.uint8, "FP32": np.float32}


class RequestError(Exception):
    """A request that cannot be answered; `status` is the HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One output that a request asks for."""

    name: str
    classes: int = 0  # most probable classes per image; 0 asks for all probabilities
    binary: bool = False  # whether the answer's tensor is binary


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """A parsed request."""

    id: str
    images: tuple[bytes, ...]  # encoded images; or none
    pixels: NDArray[Any] | None  # [N, H, W, C]; or None
    outputs: tuple[Output, ...]  # in the order of the answer


def parse(
    body: bytes,
    header: str | None,
    *,
    shape: tuple[int, int, int],
    outputs: tuple[str, ...] = (PROBABILITIES,),
) -> InferRequest:
    """Returns the request in a body.

    Args:
        body: JSON, or JSON followed by binary tensors.
        header: The value of Inference-Header-Content-Length: the bytes of the JSON.
        shape: Height, width and channels of the images that the model takes as pixels.
        outputs: What the model can answer; all of it if the request names no outputs.

    Raises:
        RequestError: The message says what was wrong, and what was expected.
    """
    end = len(body)
    if header is not None:
        if not header.isascii() or not header.isdigit() or int(header) > len(body):
            raise RequestError(
                f"{HEADER}: {truncated(header)!r}. Expected the bytes of the JSON, at most "
                f"{len(body)}."
            )
        end = int(header)
    data = _json(body[:end])
    inputs = data.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise RequestError('inputs: expected one tensor, named "image" or "pixels".')
    wanted = _outputs(data, outputs)
    images, pixels = _input(inputs[0], body[end:], shape)
    identity = data.get("id", "")
    if not isinstance(identity, str) or len(identity) > 1000:
        raise RequestError("id: expected a string of at most 1,000 characters.")
    return InferRequest(id=identity, images=images, pixels=pixels, outputs=wanted)


def _json(text: bytes) -> dict[str, Any]:
    try:
        data = parse_json(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f"the body is not valid JSON ({truncated(error)}). Expected an object with inputs, "
            f"nested at most {NESTING} deep."
        ) from error
    if not isinstance(data, dict):
        raise RequestError("the body is JSON, but no object. Expected an object with inputs.")
    return data


def _outputs(data: dict[str, Any], known: tuple[str, ...]) -> tuple[Output, ...]:
    """Returns the outputs that a request asks for."""
    default = _parameters(data, "the request").get("binary_data_output", False)
    outputs = data.get("outputs", [])
    expected = " or ".join(f'"{name}"' for name in known)
    if not isinstance(outputs, list) or len(outputs) > len(known):
        raise RequestError(f"outputs: expected at most {len(known)}, named {expected}.")
    wanted: list[Output] = []
    for output in outputs or [{"name": name} for name in known]:
        named = output.get("name") if isinstance(output, dict) else output
        if not isinstance(output, dict) or named not in known:
            raise RequestError(f"outputs: {truncated(named)!r}. Expected {expected}.")
        if any(named == one.name for one in wanted):
            raise RequestError(f"outputs: {named!r} twice. Expected each output once.")
        wanted.append(_output(output, default))
    return tuple(wanted)


def _output(output: dict[str, Any], default: object) -> Output:
    held = _parameters(output, "the output")
    classes, binary = held.get("classification", 0), held.get("binary_data", default)
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 0:
        raise RequestError(
            f"classification: {truncated(classes)!r}. Expected a number of classes, 0 or more."
        )
    if classes and output["name"] != PROBABILITIES:
        raise RequestError(f'classification: expected it for "{PROBABILITIES}" only.')
    if not isinstance(binary, bool):
        raise RequestError(f"binary_data: {truncated(binary)!r}. Expected true or false.")
    return Output(name=output["name"], classes=classes, binary=binary)


def _parameters(data: dict[str, Any], what: str) -> dict[str, Any]:
    found = data.get("parameters", {})
    if not isinstance(found, dict):
        raise RequestError(f"parameters of {what}: expected an object.")
    return found


def _input(
    tensor: dict[str, Any], tail: bytes, shape: tuple[int, int, int]
) -> tuple[tuple[bytes, ...], NDArray[Any] | None]:
    name, kind, sides = (tensor.get(key) for key in ("name", "datatype", "shape"))
    fits = isinstance(sides, list) and 1 <= len(sides) <= 4
    fits = fits and all(isinstance(one, int) and not isinstance(one, bool) for one in sides or [])
    if not fits or not sides or not 1 <= sides[0] <= REQUEST_IMAGES:
        raise RequestError(
            f"shape: {truncated(sides)}. Expected a list of integers, whose first is the number of "
            f"images, 1 to {REQUEST_IMAGES}."
        )
    size = _parameters(tensor, "the input").get("binary_data_size")
    if size is not None and size != len(tail):
        raise RequestError(f"binary_data_size: {truncated(size)}. Expected {len(tail)}.")
    raw = None if size is None else tail
    if raw is None and tail:
        raise RequestError("bytes follow the JSON, but the input has no binary_data_size.")
    if (name, kind) == ("image", "BYTES"):
        return _encoded(tensor.get("data"), raw, sides), None
    if name == "pixels" and kind in _DTYPES:
        return (), _pixels(tensor.get("data"), raw, sides, str(kind), shape)
    raise RequestError(
        f"inputs: {truncated(name)!r} of {truncated(kind)}. Expected image of BYTES (encoded "
        f"images), or pixels of UINT8 or FP32, [N, {shape[0]}, {shape[1]}, {shape[2]}]."
    )


def _encoded(data: object, raw: bytes | None, sides: list[int]) -> tuple[bytes, ...]:
    if math.prod(sides) != sides[0]:
        raise RequestError(f"shape: {sides}. Expected [N] or [N, 1] for encoded images.")
    if raw is not None:
        found = _split(raw)
    elif isinstance(data, list) and all(isinstance(one, str) for one in data):
        try:
            found = [base64.b64decode(one, validate=True) for one in data]
        except (binascii.Error, ValueError) as error:
            raise RequestError("data: expected encoded images in base64.") from error
    else:
        raise RequestError("data: expected a list of encoded images in base64.")
    if len(found) != sides[0]:
        raise RequestError(f"data: {len(found)} images. Expected {sides[0]}, as the shape says.")
    return tuple(found)


def _split(raw: bytes) -> list[bytes]:
    """Returns the elements of a binary BYTES tensor: each has its length before it, 4 bytes."""
    found, at = [], 0
    while at < len(raw):
        if at + 4 > len(raw):
            raise RequestError("binary data: the last length is cut.")
        (length,) = struct.unpack_from("<I", raw, at)
        at += 4
        if at + length > len(raw):
            raise RequestError("binary data: the last image is cut.")
        found.append(raw[at : at + length])
        at += length
    return found


def _pixels(
    data: object, raw: bytes | None, sides: list[int], kind: str, shape: tuple[int, int, int]
) -> NDArray[Any]:
    if tuple(sides[1:]) != shape:
        raise RequestError(f"shape: {sides}. Expected [N, {shape[0]}, {shape[1]}, {shape[2]}].")
    dtype = np.dtype(_DTYPES[kind])
    count = math.prod(sides)
    if raw is not None:
        if len(raw) != count * dtype.itemsize:
            raise RequestError(
                f"binary data: {len(raw)} bytes. Expected {count * dtype.itemsize}, as the shape "
                "says."
            )
        values = np.frombuffer(raw, dtype.newbyteorder("<")).reshape(sides)
    else:
        values = _numbers(data, count, kind).reshape(sides)
    if kind == "FP32" and not (np.isfinite(values).all() and (abs(values) <= 1e6).all()):
        raise RequestError("pixels: expected finite values, 0 to 255.")
    return values.astype(dtype)


def _numbers(data: object, count: int, kind: str) -> NDArray[Any]:
    try:
        values = np.array(data, np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestError("data: expected numbers, flat or nested as the shape says.") from error
    if len(values) != count:
        raise RequestError(f"data: {len(values)} values. Expected {count}, as the shape says.")
    fits = bool(np.isfinite(values).all())
    if kind == "UINT8":
        fits = fits and bool(((values >= 0) & (values <= 255) & (values % 1 == 0)).all())
    if not fits:
        raise RequestError(f"data: expected values that {kind} can hold.")
    return values


def answer(
    request: InferRequest,
    model: str,
    shares: NDArray[np.float32],
    names: tuple[str, ...],
    unknown: NDArray[np.bool_] | None = None,
) -> tuple[bytes, int | None]:
    """Returns the body of an answer, and the bytes of its JSON if binary data follow.

    Args:
        request: What was asked.
        model: Its name.
        shares: Probabilities, [N, classes].
        names: Of the classes; empty if they are unknown.
        unknown: Which images are unknown, [N], if the request asks for it.
    """
    tensors, tail = [], b""
    for output in request.outputs:
        if output.name == UNKNOWN:
            assert unknown is not None
            tensor, plain, raw = _tensor(output, "BOOL", unknown, "?")
        elif output.classes:
            tensor, plain, raw = _classification(output, shares, names)
        else:
            tensor, plain, raw = _tensor(output, "FP32", shares, "<f4")
        if output.binary:
            tensor["parameters"] = {"binary_data_size": len(raw)}
            tail += raw
        else:
            tensor["data"] = plain
        tensors.append(tensor)
    head: dict[str, Any] = {"model_name": model, "model_version": "1", "outputs": tensors}
    if request.id:
        head["id"] = request.id
    text = json.dumps(head).encode()
    binary = any(output.binary for output in request.outputs)
    return text + tail, len(text) if binary else None


_Tensor = tuple[dict[str, Any], list[Any], bytes]  # its head, its values for JSON, and in binary


def _tensor(output: Output, datatype: str, values: NDArray[Any], dtype: str) -> _Tensor:
    head = {"name": output.name, "datatype": datatype, "shape": list(values.shape)}
    return head, values.reshape(-1).tolist(), np.ascontiguousarray(values, dtype).tobytes()


def _classification(output: Output, shares: NDArray[np.float32], names: tuple[str, ...]) -> _Tensor:
    order = np.argsort(-shares, axis=1, kind="stable")[:, : output.classes]
    texts = [
        f"{row[at]:f}:{at}" + (f":{names[at]}" if names else "")
        for row, places in zip(shares, order, strict=True)
        for at in places.tolist()
    ]
    flat = [text.encode() for text in texts]
    raw = b"".join(struct.pack("<I", len(text)) + text for text in flat)
    return {"name": output.name, "datatype": "BYTES", "shape": list(order.shape)}, texts, raw
