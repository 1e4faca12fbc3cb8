"""The routes of the service."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from forebear.engines.classifier import Classifier
from forebear.limits import REQUEST_BYTES, REQUEST_IMAGES
from forebear.tasks.serve import protocol_v2
from forebear.tasks.serve.batcher import FullError
from forebear.tasks.serve.protocol_v2 import RequestError
from forebear.tasks.serve.service import Service
from forebear.text import truncated
from forebear.version import __version__

_log = logging.getLogger(__name__)


class Routes:
    """The routes of a service."""

    def __init__(self, service: Service) -> None:
        """Serves a service."""
        self._service, self._settings = service, service.settings
        self._classifier, self._metered = service.classifier, service.metrics

    def app(self) -> Starlette:
        """Returns the application."""
        name = self._settings.name
        routes: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
            ("/predict", "POST", self._predict),
            ("/v2", "GET", self._server),
            ("/v2/health/live", "GET", self._live),
            ("/v2/health/ready", "GET", self._ready),
            (f"/v2/models/{name}", "GET", self._model),
            (f"/v2/models/{name}/ready", "GET", self._ready),
            (f"/v2/models/{name}/infer", "POST", self._infer),
            ("/metrics", "GET", self._metrics),
        ]
        return Starlette(
            routes=[
                Route(path, partial(self._answered, path, run), methods=[method])
                for path, method, run in routes
            ],
            exception_handlers={404: self._unknown, 405: self._unknown},
        )

    async def _answered(
        self, path: str, run: Callable[[Request], Awaitable[Response]], request: Request
    ) -> Response:
        """Runs a route, and turns every exception into an answer."""
        begun = time.perf_counter()
        try:
            self._service.check_rate(request.client and request.client.host)
            found = await run(request)
        except RequestError as error:
            found = _error(str(error), error.status)
        except FullError:
            found = _error("the queue is full. Expected fewer requests. Try again later.", 503)
            found.headers["Retry-After"] = "1"
        except Exception:
            number = secrets.token_hex(4)
            _log.exception("fault %s", number)
            found = _error(f"a fault in the server, number {number} in its log.", 500)
        if self._service.draining:
            found.headers["Connection"] = "close"  # the next request goes to another server
        self._metered.request(path, found.status_code, time.perf_counter() - begun)
        return found

    async def _unknown(self, request: Request, error: Exception) -> Response:
        status = int(getattr(error, "status_code", 404))
        expected = "/predict, /v2/... or /metrics" if status == 404 else "another method"
        path = truncated(request.url.path)
        self._metered.request("other", status, 0.0)
        return _error(f"{request.method} {path}: expected {expected}.", status)

    async def _live(self, request: Request) -> Response:
        return Response()

    async def _ready(self, request: Request) -> Response:
        return Response(status_code=503 if self._service.draining else 200)

    async def _server(self, request: Request) -> Response:
        extensions = ["binary_tensor_data", "classification"]
        return JSONResponse({"name": "forebear", "version": __version__, "extensions": extensions})

    async def _model(self, request: Request) -> Response:
        rule, classes = self._classifier.preprocessing, self._classifier.classes
        pixels = {"name": "pixels", "datatype": "UINT8",
                  "shape": [-1, *rule.shape, rule.channels]}  # fmt: skip
        outputs = [
            {"name": protocol_v2.PROBABILITIES, "datatype": "FP32",
             "shape": [-1, len(classes) or -1]},
        ]  # fmt: skip
        if self._classifier.has_threshold:
            outputs.append({"name": protocol_v2.UNKNOWN, "datatype": "BOOL", "shape": [-1]})
        return JSONResponse(
            {
                "name": self._settings.name,
                "versions": ["1"],
                "platform": f"forebear_{self._classifier.engine.name}",
                "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}, pixels],
                "outputs": outputs,
            }
        )

    async def _metrics(self, request: Request) -> Response:
        return PlainTextResponse(self._metered.text(), media_type="text/plain; version=0.0.4")

    async def _predict(self, request: Request) -> Response:
        """One image as the body, or several as the files of a form."""
        top = _count(request.query_params.get("top", "5"))
        unknown = _flag(request.query_params.get("unknown", "0"))
        if unknown:
            _require_threshold(self._classifier)
        body = await _body(request)
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            files = await _files(request, body)
            answers = await self._answers([data for _, data in files], top, unknown=unknown)
            return JSONResponse(
                [{"name": name, **one} for (name, _), one in zip(files, answers, strict=True)]
            )
        if not body:
            raise RequestError("the body is empty. Expected an image, or a form with images.")
        (found,) = await self._answers([body], top, unknown=unknown)
        return JSONResponse(found if unknown else found["classes"])

    async def _answers(
        self, images: Sequence[bytes], top: int, *, unknown: bool
    ) -> list[dict[str, Any]]:
        """Returns the most probable classes of each image, and if asked whether it is unknown."""
        logits = await self._service.logits(await self._service.decoded(images))
        found: list[dict[str, Any]] = [
            {"classes": one} for one in _answers(self._classifier, logits, top)
        ]
        if not unknown:
            return found
        strange = self._classifier.unknown(logits).tolist()
        return [{"unknown": alien, **one} for alien, one in zip(strange, found, strict=True)]

    async def _infer(self, request: Request) -> Response:
        rule = self._classifier.preprocessing
        body = await _body(request)
        shape = (*rule.shape, rule.channels)
        outputs: tuple[str, ...] = (protocol_v2.PROBABILITIES,)
        if self._classifier.has_threshold:
            outputs += (protocol_v2.UNKNOWN,)
        header = request.headers.get(protocol_v2.HEADER)
        asked = protocol_v2.parse(body, header, shape=shape, outputs=outputs)
        if asked.pixels is None:
            images = await self._service.decoded(asked.images)
        else:
            images = list(asked.pixels)
        logits, model = await self._service.logits(images), self._classifier
        text, head = protocol_v2.answer(
            asked, self._settings.name, model.probabilities(logits), model.classes,
            model.unknown(logits) if model.has_threshold else None,
        )  # fmt: skip
        if head is None:
            return Response(text, media_type="application/json")
        headers = {"Inference-Header-Content-Length": str(head)}
        return Response(text, media_type="application/octet-stream", headers=headers)


def _error(message: str, status: int) -> Response:
    return JSONResponse({"error": message}, status)


def _answers(
    classifier: Classifier, logits: NDArray[np.float32], top: int
) -> list[list[dict[str, Any]]]:
    """Returns the most probable classes of each image, and whether each is a label of it."""
    found: list[list[dict[str, Any]]] = [
        [{"class": name, "probability": share} for name, share in guesses]
        for guesses in classifier.guesses(logits, top)
    ]
    if classifier.multi_label is not None:
        for row, labels in zip(found, classifier.labels(logits), strict=True):
            for one in row:
                one["label"] = one["class"] in labels
    return found


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 10_000):
        raise RequestError(f"top={truncated(text)}: expected a number of classes, 1 or more.")
    return int(text)


def _require_threshold(classifier: Classifier) -> None:
    try:
        classifier.require_threshold()
    except ValueError as error:
        raise RequestError(str(error)) from error


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise RequestError(f"unknown={truncated(text)}: expected 1 or 0.")
    return text == "1"


async def _body(request: Request) -> bytes:
    """Returns the body, of which no more is read than may be.

    Raises:
        RequestError: It is too large or compressed.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise RequestError("the body is compressed. Expected one that is not.", 415)
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > REQUEST_BYTES:
            raise RequestError(
                f"the body is too large. Expected at most {REQUEST_BYTES:,} bytes.", 413
            )
        parts.append(chunk)
    return b"".join(parts)


async def _files(request: Request, body: bytes) -> list[tuple[str, bytes]]:
    """Returns name and content of the files of a form."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        parser = MultiPartParser(
            request.headers, stream(), max_files=REQUEST_IMAGES, max_fields=REQUEST_IMAGES
        )
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError, LookupError) as error:
        raise RequestError(
            f"the form cannot be read ({truncated(error)}). Expected multipart/form-data with at "
            f"most {REQUEST_IMAGES} files."
        ) from error
    found = [
        (one.filename or name, await one.read())
        for name, one in form.multi_items()
        if isinstance(one, UploadFile)
    ]
    await form.close()
    if not found:
        raise RequestError("the form has no files. Expected one or more images.")
    return found
