from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("httpx2")
pytest.importorskip("python_multipart")

from starlette.testclient import TestClient

from forebear.network.multi_label import MultiLabel
from forebear.tasks.serve import app as routes
from forebear.tasks.serve.app import Routes
from forebear.tasks.serve.service import Service, Settings
from tests.data.making import encoded
from tests.network.making import FITTED
from tests.tasks.serve.making import Brightness, classifier

BRIGHT = encoded(Image.fromarray(np.full((8, 8, 3), 250, np.uint8)), "PNG")
DARK = encoded(Image.fromarray(np.full((8, 8, 3), 5, np.uint8)), "PNG")
INFER = "/v2/models/net/infer"


class Server:
    def __init__(self, **settings: Any) -> None:
        self.engine = Brightness()
        self.service = Service(classifier(self.engine), Settings(name="net", **settings))
        self.client = TestClient(Routes(self.service).app(), raise_server_exceptions=False)


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server(delay=0)
    yield found
    found.service.close()


def test_an_image(server: Server) -> None:
    found = server.client.post("/predict?top=1", content=BRIGHT)
    assert found.status_code == 200
    (guess,) = found.json()
    assert guess["class"] == "bright"
    assert 0.9 < guess["probability"] <= 1


def test_several_images_as_a_form(server: Server) -> None:
    files = [("image", ("a.png", BRIGHT)), ("image", ("b.png", DARK))]
    found = server.client.post("/predict", files=files).json()
    assert [one["name"] for one in found] == ["a.png", "b.png"]
    assert [one["classes"][0]["class"] for one in found] == ["bright", "dark"]


def test_the_protocol(server: Server) -> None:
    assert server.client.get("/v2").json()["name"] == "forebear"
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/net/ready"):
        assert server.client.get(path).status_code == 200
    model = server.client.get("/v2/models/net").json()
    assert model["inputs"][1]["shape"] == [-1, 8, 8, 3]
    assert model["outputs"][0]["shape"] == [-1, 2]
    values = [250] * 192 + [5] * 192
    body = {"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [2, 8, 8, 3],
                        "data": values}]}  # fmt: skip
    told = server.client.post(INFER, json=body).json()
    shares = np.array(told["outputs"][0]["data"]).reshape(told["outputs"][0]["shape"])
    assert shares.argmax(1).tolist() == [1, 0]


def test_a_server_that_ends_is_not_ready(server: Server) -> None:
    server.service.draining = True
    assert server.client.get("/v2/health/ready").status_code == 503
    assert server.client.get("/v2/health/live").status_code == 200
    assert server.client.post("/predict", content=BRIGHT).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "message"),
    [
        ("POST", "/predict", {"content": b"words"}, 400, "not an image"),
        ("POST", "/predict", {"content": b""}, 400, "the body is empty"),
        ("POST", "/predict?top=0", {"content": BRIGHT}, 400, "top=0: expected"),
        ("POST", "/predict?top=x", {"content": BRIGHT}, 400, "top=x: expected"),
        ("POST", "/predict", {"data": {"a": "b"}, "files": []}, 400, "not an image"),
        ("POST", "/predict", {"content": b"--x", "headers":
            {"content-type": "multipart/form-data"}}, 400, "the form cannot be read"),
        ("POST", "/predict", {"content": b"--x", "headers":
            {"content-type": "multipart/form-data; boundary=x"}}, 400, "the form"),
        ("POST", "/predict", {"content": BRIGHT, "headers": {"content-encoding": "gzip"}}, 415,
         "compressed"),
        ("GET", "/predict", {}, 405, "another method"),
        ("GET", "/nothing", {}, 404, "expected /predict"),
        ("POST", "/v2/models/other/infer", {"content": b"{}"}, 404, "expected /predict"),
        ("POST", INFER, {"content": b"{"}, 400, "not valid JSON"),
    ],
)  # fmt: skip
def test_bad_requests(
    method: str, path: str, options: dict[str, Any], status: int, message: str, server: Server
) -> None:
    found = server.client.request(method, path, **options)
    assert found.status_code == status
    assert message in found.json()["error"]


def test_a_body_that_is_too_large(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "REQUEST_BYTES", 1000)
    assert server.client.post("/predict", content=b"x" * 1001).status_code == 413

    def parts() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    found = server.client.post("/predict", content=parts())  # without Content-Length
    assert found.status_code == 413


def test_a_fault_of_the_server_is_not_shown(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.engine.fault = "secret"
    found = server.client.post("/predict", content=BRIGHT)
    assert found.status_code == 500
    assert "secret" not in found.text
    number = found.json()["error"].split("number ")[1].split()[0]
    assert f"fault {number}" in caplog.text
    assert "secret" in caplog.text
    server.engine.fault = ""
    assert server.client.post("/predict", content=BRIGHT).status_code == 200


def test_a_full_queue() -> None:
    server = Server(queue=1)
    files = [("image", ("a.png", BRIGHT)), ("image", ("b.png", DARK))]
    found = server.client.post("/predict", files=files)
    assert found.status_code == 503
    assert found.headers["Retry-After"] == "1"
    assert server.client.post("/predict", content=BRIGHT).status_code == 200
    server.service.close()


def test_a_limit_of_the_rate() -> None:
    server = Server(rate=1)
    codes = [server.client.get("/v2/health/live").status_code for _ in range(4)]
    assert codes == [200, 200, 429, 429]
    server.service.close()


def test_metrics(server: Server) -> None:
    server.client.post("/predict", content=BRIGHT)
    server.client.post("/predict", content=b"no")
    server.client.get("/secret%1b[31m")
    text = server.client.get("/metrics").text
    assert 'forebear_requests_total{path="/predict",code="200"} 1' in text
    assert 'forebear_requests_total{path="/predict",code="400"} 1' in text
    assert 'forebear_requests_total{path="other",code="404"} 1' in text
    assert "secret" not in text
    assert "forebear_batch_images_count 1" in text


@pytest.mark.long
def test_a_thousand_malformed_requests_are_4xx(server: Server) -> None:
    draws = random.Random(0)
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [1] * 192}
    whole = json.dumps({"inputs": [tensor]}).encode()
    codes = set()
    for number in range(1000):
        if number % 2:
            cut = bytearray(whole[: draws.randrange(len(whole))])
            path = INFER
        else:
            cut = bytearray(BRIGHT[: draws.randrange(len(BRIGHT) - 24)])  # within the pixels
            path = "/predict"
        if cut:
            cut[draws.randrange(len(cut))] = draws.randrange(256)
        codes.add(server.client.post(path, content=bytes(cut)).status_code)
    assert codes == {400}
    assert server.client.post("/predict", content=BRIGHT).status_code == 200


def test_answers_are_calibrated() -> None:
    plain, hot = Server(delay=0), Server(delay=0)
    hot.service.close()
    fitted = replace(FITTED, temperature=4.0)
    hot.service = Service(replace(classifier(), calibration=fitted), Settings(name="net", delay=0))
    hot.client = TestClient(Routes(hot.service).app(), raise_server_exceptions=False)
    body = {"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 8, 8, 3],
                        "data": [150] * 192}]}  # fmt: skip
    image = encoded(Image.fromarray(np.full((8, 8, 3), 150, np.uint8)), "PNG")
    ratios = []
    for one in (plain, hot):
        shares = one.client.post(INFER, json=body).json()["outputs"][0]["data"]
        rows = one.client.post("/predict", content=image).json()
        assert [row["probability"] for row in rows] == pytest.approx(sorted(shares)[::-1])
        ratios.append(np.log(max(shares) / min(shares)))
        one.service.close()
    assert ratios[1] == pytest.approx(ratios[0] / 4, rel=1e-4)


@pytest.fixture
def strict() -> Iterator[Server]:
    """A server that calls an image unknown if its probability is below 0.9."""
    found = Server(delay=0)
    found.service.close()
    fitted = replace(FITTED, temperature=1.0, threshold=0.9)
    known = replace(classifier(), calibration=fitted)
    found.service = Service(known, Settings(name="net", delay=0))
    found.client = TestClient(Routes(found.service).app(), raise_server_exceptions=False)
    yield found
    found.service.close()


GREY = encoded(Image.fromarray(np.full((8, 8, 3), 130, np.uint8)), "PNG")


def test_an_image_below_the_threshold_is_unknown(strict: Server) -> None:
    grey = strict.client.post("/predict?unknown=1", content=GREY).json()
    assert grey["unknown"] is True
    assert [one["class"] for one in grey["classes"]] == ["bright", "dark"]
    assert strict.client.post("/predict?unknown=0", content=GREY).json() == grey["classes"]
    files = [("image", ("a.png", BRIGHT)), ("image", ("b.png", GREY))]
    found = strict.client.post("/predict?unknown=1", files=files).json()
    assert [(one["name"], one["unknown"]) for one in found] == [("a.png", False), ("b.png", True)]
    plain = strict.client.post("/predict", files=files).json()
    assert [one.keys() for one in plain] == [{"name", "classes"}] * 2


def test_unknown_by_the_protocol(strict: Server) -> None:
    model = strict.client.get("/v2/models/net").json()
    assert model["outputs"][1] == {"name": "unknown", "datatype": "BOOL", "shape": [-1]}
    body = {"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [2, 8, 8, 3],
                        "data": [250] * 192 + [130] * 192}]}  # fmt: skip
    shares, unknown = strict.client.post(INFER, json=body).json()["outputs"]
    assert (shares["name"], unknown["name"]) == ("probabilities", "unknown")
    assert unknown["data"] == [False, True]


def test_unknown_needs_a_threshold(server: Server) -> None:
    found = server.client.post("/predict?unknown=1", content=GREY)
    assert found.status_code == 400
    assert "Run forebear calibrate" in found.json()["error"]
    assert len(server.client.get("/v2/models/net").json()["outputs"]) == 1
    wrong = server.client.post("/predict?unknown=yes", content=GREY)
    assert wrong.json() == {"error": "unknown=yes: expected 1 or 0."}


def test_a_multi_label_network_has_no_unknown() -> None:
    several = replace(
        classifier(), calibration=FITTED, multi_label=MultiLabel(thresholds=(0.5, 0.5))
    )
    service = Service(several, Settings(name="net", delay=0))
    client = TestClient(Routes(service).app(), raise_server_exceptions=False)
    body = {"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 8, 8, 3],
                        "data": [250] * 192}]}  # fmt: skip
    (output,) = client.post(INFER, json=body).json()["outputs"]
    refused = client.post("/predict?unknown=1", content=BRIGHT)
    service.close()
    assert output["name"] == "probabilities"
    assert refused.status_code == 400
    assert "is multi-label" in refused.json()["error"]
