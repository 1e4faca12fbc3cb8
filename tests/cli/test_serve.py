from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from PIL import Image

from forebear.cli.main import main
from forebear.weights.native_format import save
from tests.data.making import encoded
from tests.tasks.export.test_formats import small

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")

IMAGE = encoded(Image.fromarray(np.full((64, 64, 3), 200, np.uint8)), "JPEG")
REQUEST = (
    b"POST /predict HTTP/1.1\r\nHost: forebear\r\nContent-Length: %d\r\n\r\n" % len(IMAGE) + IMAGE
)


class Child:
    """forebear serve in a process of its own, on a free port."""

    def __init__(self, folder: Path, *words: str) -> None:
        save(small(), folder / "w.safetensors", classes=("a", "b", "c"))
        command = [sys.executable, "-m", "forebear", "serve", str(folder / "w.safetensors"),
                   "--port", "0", "--engine", "torch", *words]  # fmt: skip
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"FOREBEAR_HOME": str(folder / "home")},
        )  # fmt: skip
        stream = self.process.stderr
        assert stream is not None
        self.lines = self._until_ready(stream)

    def _until_ready(self, stream: IO[str]) -> list[str]:
        lines = []
        for line in stream:
            lines.append(line)
            found = re.search(r"http://127\.0\.0\.1:(\d+): small, 3 classes", line)
            if found:
                self.url = f"http://127.0.0.1:{found[1]}"
                break
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.url}/v2/health/ready").close()
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.02)
            else:
                break
        return lines

    def predict(self) -> list[dict[str, object]]:
        request = urllib.request.Request(f"{self.url}/predict", IMAGE)
        with urllib.request.urlopen(request, timeout=20) as answer:
            found: list[dict[str, object]] = json.load(answer)
        return found


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    found = Child(tmp_path, "--delay-ms", "30")
    yield found
    found.process.kill()
    found.process.wait()
    assert found.process.stderr is not None
    found.process.stderr.close()


def test_a_signal_under_load_answers_every_accepted_request(child: Child) -> None:
    assert len(child.predict()) == 3
    answered: list[list[dict[str, object]]] = []
    refused: list[int] = []
    lost: list[OSError] = []

    def ask() -> None:
        while True:
            try:
                answered.append(child.predict())
            except urllib.error.HTTPError as error:
                refused.append(error.code)
                return
            except urllib.error.URLError as error:
                if isinstance(error.reason, ConnectionRefusedError | ConnectionResetError):
                    return  # not accepted
                lost.append(error)
                return
            except OSError as error:
                lost.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    child.process.send_signal(signal.SIGTERM)
    assert child.process.wait(30) == -signal.SIGTERM
    for thread in threads:
        thread.join(30)
    assert len(answered) > 8
    assert all(len(one) == 3 for one in answered)
    assert lost == []


def test_a_request_of_a_connection_older_than_a_signal_is_answered(child: Child) -> None:
    """Whether it was read in part, not begun, or still waited to be accepted at the signal."""
    host, port = child.url.removeprefix("http://").split(":")
    read = [0, 40, len(REQUEST) - 1]  # bytes sent before the signal, on accepted connections
    waiting = [len(REQUEST)] * 5  # on those that the stopped process cannot accept
    connections = []
    for sent in read:
        connections.append(socket.create_connection((host, int(port)), timeout=20))
        connections[-1].sendall(REQUEST[:sent])
    time.sleep(0.2)
    child.process.send_signal(signal.SIGSTOP)
    for sent in waiting:
        connections.append(socket.create_connection((host, int(port)), timeout=20))
        connections[-1].sendall(REQUEST[:sent])
    child.process.send_signal(signal.SIGTERM)
    child.process.send_signal(signal.SIGCONT)
    time.sleep(0.3)
    for connection, sent in zip(connections, read + waiting, strict=True):
        with connection:
            connection.sendall(REQUEST[sent:])
            answer = _everything(connection)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer.lower()
    assert child.process.wait(30) == -signal.SIGTERM


def _everything(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_an_answer_does_not_wait_for_the_network(child: Child) -> None:
    """Nagle's algorithm and delayed acknowledgements would add 40 ms to each answer."""
    import http.client

    connection = http.client.HTTPConnection(child.url.removeprefix("http://"))
    times = []
    for _ in range(15):
        begun = time.monotonic()
        connection.request("GET", "/v2")
        connection.getresponse().read()
        times.append(time.monotonic() - begun)
    connection.close()
    assert min(times) < 0.03


def test_the_unmodified_client_of_triton(child: Child) -> None:
    http = pytest.importorskip("tritonclient.http")
    client = http.InferenceServerClient(child.url.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_model_ready("small")
    given = http.InferInput("image", [2], "BYTES")
    given.set_data_from_numpy(np.array([IMAGE, IMAGE], object))
    wanted = http.InferRequestedOutput("probabilities", class_count=1)
    found = client.infer("small", [given], outputs=[wanted]).as_numpy("probabilities")
    assert found.shape == (2, 1)
    assert found[0, 0].decode().split(":")[2] in "abc"
    client.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "--port 70000: expected 0 to 65535"),
        (["--batch", "0"], "--batch 0: expected 1 to"),
        (["--delay-ms", "nan"], "--delay-ms nan: expected"),
        (["--name", "a/b"], "--name 'a/b': expected 1 to 100 letters"),
        (["--host", "203.0.113.7", "--port", "1"], "Expected an address of this machine"),
    ],
)
def test_arguments_that_cannot_be(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(small(), tmp_path / "w.safetensors")
    command = ["serve", str(tmp_path / "w.safetensors"), "--engine", "torch", *words]
    assert main(command) == 2
    assert message in capsys.readouterr().err


def test_the_container_is_slim_and_not_root() -> None:
    text = (Path(__file__).parents[2] / "deploy" / "Dockerfile").read_text()
    lines = [
        (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1])
        for line in text.splitlines()
        if line and line[0].isupper()
    ]
    steps = [name for name, _ in lines]
    last = dict(lines)
    assert "-slim" in last["FROM"]
    assert last["USER"] not in ("root", "0")
    assert steps.index("USER") < steps.index("ENTRYPOINT")
    assert json.loads(last["ENTRYPOINT"])[:2] == ["forebear", "serve"]
    assert "*.whl" in text
    assert "HEALTHCHECK" in steps
