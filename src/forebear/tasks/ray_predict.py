"""Classifies images on a Ray cluster: Ray Data hands out paths, and actors hold one engine each.

Every machine needs forebear, the weights and the images at the same paths.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.engines.engine import EngineRequest
from forebear.errors import ForebearError, RunError
from forebear.tasks import predict_job
from forebear.tasks.result_file import Answer
from forebear.text import printable, truncated

if TYPE_CHECKING:
    from forebear.engines.classifier import Classifier

_BATCHES = 8  # in a block at least, so that an actor decodes ahead
_BLOCKS = 10_000  # at most, as long as a block has no more than _PATHS
_PATHS = 65_536  # in a block at most: what is lost when a job is killed


def answers(
    source: Path | str,
    request: EngineRequest,
    images: Sequence[Path],
    *,
    top: int = 5,
    batch: int = 16,
    workers: int | None = None,
    address: str = "auto",
    network: str | None = None,
    which: str | None = None,
    unknown: bool = False,
) -> Iterator[list[Answer]]:
    """Yields the answers to images, some at a time, in the order of the images.

    Args:
        source: What `open_classifier` opens, on every machine.
        request: The engine of every actor. An actor takes `threads` cores; None is one.
        images: Paths.
        top: Classes per image; fewer if there are fewer.
        batch: Images at a time in each actor.
        workers: Actors; None takes as many as the cluster has cores for.
        address: Of a Ray cluster; "auto" takes the one that runs here, or starts one.
        network: The name of the network of the weights; None detects it.
        which: The weights to take if the file has several sets.
        unknown: Whether answers say that an image is unknown.

    Raises:
        ValueError: Ray is not installed, or `workers` is less than 1.
        RunError: The cluster does not answer, or an actor fails.
    """
    check(workers)
    if not images:
        return
    request = replace(request, batch=batch, threads=request.threads or 1)
    place = _absolute(source) if Path(source).exists() else str(source)
    options = {
        "source": place, "request": request, "network": network, "which": which, "top": top,
        "unknown": unknown,
    }  # fmt: skip
    ray = _ray()
    mine = not ray.is_initialized()
    if mine:
        _connect(address)
    try:
        yield from _ordered(_dataset(images, batch, workers, options), images)
    except ray.exceptions.RayError as error:
        raise RunError(
            f"ray={printable(address)}: {truncated(_last_line(error))}. Expected workers with "
            "forebear, the weights and the images. Check the cluster, and run again to continue."
        ) from error
    finally:
        if mine:
            ray.shutdown()


def check(workers: int | None) -> None:
    """Refuses what cannot be, before anything is opened.

    Raises:
        ValueError: Ray is not installed, or `workers` is less than 1.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers}: expected 1 or more. Pass a number of actors.")
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
        raise ValueError(
            "--ray: Ray Data is not installed. Expected it here and on every machine. Run "
            "pip install 'forebear[ray]', or leave --ray out."
        )


def _ray() -> Any:
    importlib.import_module("ray.data")
    return importlib.import_module("ray")


def _connect(address: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # errors arrive as exceptions
    try:
        _knock(address)
        _ray().init(
            address=None if address == "auto" else address,
            include_dashboard=None if address != "auto" else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise RunError(
            f"ray={printable(address)}: {truncated(_last_line(error))}. Expected auto, or the "
            "address of a running cluster such as 10.0.0.1:6379. Check it with ray status."
        ) from error


def _knock(address: str) -> None:
    """Raises an OSError if nothing listens at an address: Ray itself tries for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _dataset(
    images: Sequence[Path], batch: int, workers: int | None, options: dict[str, Any]
) -> Any:
    """Returns the dataset of answers, in the order of the images."""
    import pyarrow as pa

    ray = _ray()
    cores = options["request"].threads
    fit = max(1, int(ray.cluster_resources().get("CPU", 1)) // cores)
    most = workers or fit
    step = min(max(_BATCHES * batch, -(-len(images) // _BLOCKS)), _PATHS)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context.execution_options.preserve_order = True
    blocks = [
        pa.table({"path": [os.fsencode(_absolute(one)) for one in images[at : at + step]]})
        for at in range(0, len(images), step)
    ]
    return ray.data.from_arrow(blocks).map_batches(
        Actor,
        fn_constructor_kwargs=options,
        batch_size=None,  # a block
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=min(fit, most), max_size=most),
        num_cpus=cores,
    )


class Actor:
    """A classifier in a process of its own; the first block opens it."""

    def __init__(
        self,
        source: str,
        request: EngineRequest,
        network: str | None,
        which: str | None,
        top: int,
        unknown: bool = False,
    ) -> None:
        """Keeps what `open_classifier` takes."""
        self._source, self._request, self._top = source, request, top
        self._network, self._which, self._unknown = network, which, unknown
        self._classifier: Classifier | None = None

    def __call__(self, table: Any) -> Any:
        """Returns a table with an answer as JSON for each path of a table.

        An error that ends the job is the only answer of its block.
        """
        import pyarrow as pa

        paths = [Path(os.fsdecode(path)) for path in table["path"].to_pylist()]
        try:
            rows = [_packed(one) for one in self._answers(paths)]
        except (ForebearError, ValueError, OSError) as error:
            return pa.table({"answer": [json.dumps(str(error))]})
        return pa.table({"answer": [json.dumps(row) for row in rows]})

    def _answers(self, paths: list[Path]) -> Iterator[Answer]:
        from forebear.engines.open import open_classifier

        if self._classifier is None:
            self._classifier = open_classifier(
                self._source, self._request, network=self._network, which=self._which
            )
        batch, threads = self._request.batch, self._request.threads
        for some in predict_job.answers(
            self._classifier,
            paths,
            top=self._top,
            batch=batch,
            threads=threads,
            unknown=self._unknown,
        ):
            yield from some


def _packed(answer: Answer) -> list[Any]:
    """Returns an answer as JSON holds it; labels only if the network is multi-label."""
    labels = [] if answer.labels is None else [answer.labels]
    return [answer.guesses, answer.error, answer.unknown, *labels]


def _ordered(dataset: Any, images: Sequence[Path]) -> Iterator[list[Answer]]:
    done = 0
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        found: list[Answer] = []
        for text in table["answer"].to_pylist():
            row = json.loads(text)
            if isinstance(row, str):
                raise RunError(f"a worker of the Ray cluster: {row}")
            guesses = tuple((name, share) for name, share in row[0])
            path = images[done + len(found)]
            error = row[1].replace(printable(_absolute(path)), printable(path), 1)
            labels = tuple(row[3]) if row[3:] else None
            found.append(
                Answer(path=str(path), guesses=guesses, error=error, unknown=row[2], labels=labels)
            )
        done += len(found)
        yield found


def _absolute(path: Path | str) -> str:
    return os.path.abspath(path)  # noqa: PTH100 (links stay as they are)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].rstrip(".")
