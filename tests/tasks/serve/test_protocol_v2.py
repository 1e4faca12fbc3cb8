from __future__ import annotations

import base64
import json
import random
import struct
from typing import Any

import numpy as np
import pytest

from forebear.tasks.serve.protocol_v2 import InferRequest, Output, RequestError, answer, parse

SHAPE = (2, 3, 1)
PIXELS: dict[str, Any] = {
    "name": "pixels", "datatype": "UINT8", "shape": [1, 2, 3, 1], "data": [0, 1, 2, 3, 4, 255],
}  # fmt: skip
IMAGE: dict[str, Any] = {
    "name": "image", "datatype": "BYTES", "shape": [2],
    "data": [base64.b64encode(b"one").decode(), base64.b64encode(b"two").decode()],
}  # fmt: skip


def body(*inputs: Any, **more: Any) -> bytes:
    return json.dumps({"inputs": inputs, **more}).encode()


def test_pixels_flat_or_nested() -> None:
    flat = parse(body(PIXELS, id="a"), None, shape=SHAPE)
    nested = parse(
        body(PIXELS | {"data": [[[[0], [1], [2]], [[3], [4], [255]]]]}), None, shape=SHAPE
    )
    assert flat.id == "a"
    assert flat.pixels is not None
    assert flat.pixels.dtype == np.uint8
    assert np.array_equal(flat.pixels, nested.pixels)  # type: ignore[arg-type]
    assert flat.pixels.reshape(-1).tolist() == PIXELS["data"]


def test_images_in_json_and_in_binary() -> None:
    assert parse(body(IMAGE), None, shape=SHAPE).images == (b"one", b"two")
    raw = b"".join(struct.pack("<I", len(one)) + one for one in (b"one", b"two"))
    head = body({**IMAGE, "data": None, "parameters": {"binary_data_size": len(raw)}})
    found = parse(head + raw, str(len(head)), shape=SHAPE)
    assert found.images == (b"one", b"two")


@pytest.mark.parametrize("kind", ["UINT8", "FP32"])
def test_binary_pixels(kind: str) -> None:
    values = np.arange(6, dtype="u1" if kind == "UINT8" else "<f4").reshape(1, *SHAPE)
    raw = values.tobytes()
    head = body(
        {"name": "pixels", "datatype": kind, "shape": [1, *SHAPE],
         "parameters": {"binary_data_size": len(raw)}}
    )  # fmt: skip
    found = parse(head + raw, str(len(head)), shape=SHAPE).pixels
    assert found is not None
    assert np.array_equal(found, values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100, "not valid JSON"),
        (b"[]", "no object"),
        (b"{}", "inputs: expected one tensor"),
        (body(PIXELS, PIXELS), "inputs: expected one tensor"),
        (body("x"), "inputs: expected one tensor"),
        (body(PIXELS | {"shape": [1, 2, 2, 1]}), r"Expected \[N, 2, 3, 1\]"),
        (body(PIXELS | {"shape": [10**9, 2, 3, 1]}), "1 to 64"),
        (body(PIXELS | {"shape": [True, 2, 3, 1]}), "list of integers"),
        (body(PIXELS | {"shape": "big"}), "list of integers"),
        (body(PIXELS | {"data": [1]}), "1 values. Expected 6"),
        (body(PIXELS | {"data": [-1, 0, 0, 0, 0, 0]}), "values that UINT8 can hold"),
        (body(PIXELS | {"data": [0.5, 0, 0, 0, 0, 0]}), "values that UINT8 can hold"),
        (body(PIXELS | {"data": [[1], [1, 2]]}), "data: expected numbers"),
        (body(PIXELS | {"data": {"a": 1}}), "data: expected numbers"),
        (body(PIXELS | {"datatype": "INT64"}), "Expected image of BYTES"),
        (body(PIXELS | {"name": "audio"}), "Expected image of BYTES"),
        (body(IMAGE | {"data": ["%%%", "b25l"]}), "base64"),
        (body(IMAGE | {"data": [1, 2]}), "base64"),
        (body(IMAGE | {"shape": [3]}), "2 images. Expected 3"),
        (body(IMAGE | {"shape": [2, 2]}), r"Expected \[N\] or \[N, 1\]"),
        (body(IMAGE, outputs=[{"name": "logits"}]), 'Expected "probabilities"'),
        (body(IMAGE, outputs=3), "outputs: expected at most 1"),
        (body(IMAGE, id=3), "id: expected a string"),
        (body(IMAGE, parameters=3), "parameters of the request"),
        (body(IMAGE, outputs=[{"name": "probabilities", "parameters": {"classification": -1}}]),
         "Expected a number of classes"),
        (body(IMAGE, outputs=[{"name": "probabilities", "parameters": {"binary_data": 1}}]),
         "Expected true or false"),
    ],
)  # fmt: skip
def test_malformed_requests(text: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message) as found:
        parse(text, None, shape=SHAPE)
    assert found.value.status == 400
    assert len(str(found.value)) < 1000


@pytest.mark.parametrize("header", ["-1", "x", "99999", "²", "1e3", ""])
def test_a_wrong_header(header: str) -> None:
    with pytest.raises(RequestError):
        parse(body(PIXELS), header, shape=SHAPE)


@pytest.mark.parametrize("raw", [b"\x01", b"\xff\xff\xff\xff", b"\x05\0\0\0abc"])
def test_cut_binary_data(raw: bytes) -> None:
    head = body({**IMAGE, "data": None, "parameters": {"binary_data_size": len(raw)}})
    with pytest.raises(RequestError, match="is cut"):
        parse(head + raw, str(len(head)), shape=SHAPE)


def test_random_changes_of_a_request_are_read_or_refused() -> None:
    draws = random.Random(0)
    whole = body(PIXELS, id="a", outputs=[{"name": "probabilities"}])
    refused = 0
    for _ in range(3000):
        text = bytearray(whole)
        for _ in range(draws.randint(1, 4)):
            text[draws.randrange(len(text))] = draws.randrange(256)
        try:
            parse(bytes(text), draws.choice([None, str(draws.randrange(300))]), shape=SHAPE)
        except RequestError:
            refused += 1
    assert 1000 < refused < 3000


def test_answers() -> None:
    shares = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    plain = InferRequest(
        id="7",
        images=(),
        pixels=None,
        outputs=(Output(name="probabilities", classes=0, binary=False),),
    )
    text, head = answer(plain, "net", shares, ("a", "b"))
    told = json.loads(text)
    assert head is None
    assert (told["id"], told["model_name"]) == ("7", "net")
    assert told["outputs"] == [
        {"name": "probabilities", "datatype": "FP32", "shape": [2, 2],
         "data": [0.25, 0.75, 0.5, 0.5]}
    ]  # fmt: skip
    chosen = InferRequest(
        id="",
        images=(),
        pixels=None,
        outputs=(Output(name="probabilities", classes=1, binary=False),),
    )
    told = json.loads(answer(chosen, "net", shares, ("a", "b"))[0])
    assert told["outputs"][0]["data"] == ["0.750000:1:b", "0.500000:0:a"]
    assert told["outputs"][0]["shape"] == [2, 1]
    binary = InferRequest(
        id="",
        images=(),
        pixels=None,
        outputs=(Output(name="probabilities", classes=0, binary=True),),
    )
    text, head = answer(binary, "net", shares, ())
    assert head is not None
    assert np.frombuffer(text[head:], "<f4").tolist() == [0.25, 0.75, 0.5, 0.5]
    assert json.loads(text[:head])["outputs"][0]["parameters"] == {"binary_data_size": 16}


def test_unknown_is_an_output_of_its_own() -> None:
    known = ("probabilities", "unknown")
    found = parse(body(IMAGE), None, shape=SHAPE, outputs=known)
    assert [one.name for one in found.outputs] == ["probabilities", "unknown"]
    wanted = [{"name": "unknown", "parameters": {"binary_data": True}}, {"name": "probabilities"}]
    asked = parse(body(IMAGE, outputs=wanted), None, shape=SHAPE, outputs=known)
    shares = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    text, head = answer(asked, "net", shares, (), np.array([False, True]))
    assert head is not None
    unknown, probabilities = json.loads(text[:head])["outputs"]
    assert (unknown["datatype"], unknown["shape"]) == ("BOOL", [2])
    assert "data" not in unknown
    assert text[head:] == b"\x00\x01"
    assert probabilities["data"] == [0.25, 0.75, 0.5, 0.5]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([{"name": "unknown"}] * 2, "'unknown' twice. Expected each output once."),
        ([{"name": "unknown", "parameters": {"classification": 1}}], 'for "probabilities" only'),
        ([{"name": "other"}], 'Expected "probabilities" or "unknown"'),
    ],
)
def test_outputs_that_cannot_be_answered(outputs: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        parse(body(IMAGE, outputs=outputs), None, shape=SHAPE, outputs=("probabilities", "unknown"))
