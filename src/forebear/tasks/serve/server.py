"""Runs the service until a signal, then answers what was accepted."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn

from forebear.engines.classifier import Classifier
from forebear.errors import RunError
from forebear.tasks.serve.app import Routes
from forebear.tasks.serve.service import Service, Settings

DRAIN = 30  # seconds for the requests that were accepted before a signal
# Seconds after a signal for the requests of connections that are open, but were not read yet.
LATE = 1.0


class _Server(uvicorn.Server):
    """A server that says that it ends before it does."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called with the first signal, which begins the end, and with later ones."""
        self._service.draining = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the service, and first reads the requests of connections that are open already.

        uvicorn alone resets a connection that waits to be accepted, and closes one whose request
        has not been read. A client that sent its request before the signal would get no answer.
        """
        waiting = [one for listener in sockets or [] for one in _waiting(listener)]
        for server in self.servers:
            server.close()  # a new client is refused from here on
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        latest = time.monotonic() + LATE
        while any(_without_request(one) for one in self.server_state.connections):
            if time.monotonic() > latest:
                break
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        """Returns what reads a connection, as uvicorn makes it for those that it accepts itself."""
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


def _waiting(listener: socket.socket) -> list[socket.socket]:
    """Accepts the connections that wait at a listener that does not block."""
    found = []
    with suppress(BlockingIOError, InterruptedError):
        while True:
            connection = listener.accept()[0]
            connection.setblocking(False)
            found.append(connection)
    return found


def _without_request(connection: Any) -> bool:
    """Returns whether no request of a connection has been read yet."""
    return connection.cycle is None


def serve(
    classifier: Classifier,
    settings: Settings,
    *,
    host: str,
    port: int,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Serves a network until SIGTERM or SIGINT; the signal then ends the process.

    Args:
        classifier: The network.
        settings: How it is served.
        host: The address to listen on.
        port: 0 takes a free one.
        say: Takes a line with the address.

    Raises:
        RunError: The port is in use, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns off Nagle's algorithm for its connections; otherwise an
    # answer of two packets takes 40 ms longer.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise RunError(
                f"{host}:{port}: {why}. Expected an address of this machine and a free port. Pass "
                "another --host or --port."
            ) from error
        service = Service(classifier, settings)
        config = uvicorn.Config(
            Routes(service).app(),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=DRAIN,
            timeout_keep_alive=30,
            limit_concurrency=2 * settings.queue + 64,  # bodies in memory; more get status 503
            h11_max_incomplete_event_size=65_536,
            lifespan="off",
        )
        say(
            f"http://{host}:{listener.getsockname()[1]}: {settings.name}, "
            f"{len(classifier.classes) or 'unnamed'} classes, {classifier.engine.name} "
            f"{classifier.engine.precision}"
        )
        try:
            _Server(config, service).run(sockets=[listener])
        finally:
            service.close()
