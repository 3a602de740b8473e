"""The API in front of a small engine, at a unix socket, and a client that writes raw bytes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minicontainer.api.listeners import TlsFiles, listen
from minicontainer.api.server import Server
from tests.api.fake_engine import FakeEngine, Source
from tests.conftest import wait_until


class Reply:
    """An answer as it came from the socket."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.raw_body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status_line = first
        self.status = int(first.split()[1])
        fields = (line.split(": ", 1) for line in lines)
        self.headers = {name.lower(): value for name, value in fields}
        self.body = self.raw_body
        if self.headers.get("transfer-encoding") == "chunked":
            self.body = _unchunked(self.raw_body)

    def json(self) -> Any:
        """Read the body."""
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """Give the text of an error."""
        return str(self.json()["message"])


def _unchunked(data: bytes) -> bytes:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        count = int(size, 16)
        body += data[:count]
        data = data[count + 2 :]
    return body


class Wire:
    """Connections to a server, as bytes."""

    def __init__(self, path: str) -> None:
        self.path = path

    def connect(self) -> socket.socket:
        """Open a connection."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(20)
        sock.connect(self.path)
        return sock

    def send(self, raw: bytes) -> bytes:
        """Send bytes; give all that comes until the server closes."""
        with self.connect() as sock:
            sock.sendall(raw)
            return receive_all(sock)

    def ask(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/json"
    ) -> Reply:
        """Send a request on a connection of its own."""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        if body is not None:
            head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        return Reply(self.send(head.encode() + b"\r\n" + (body or b"")))

    def post(self, path: str, value: Any = None) -> Reply:
        """Post a JSON document."""
        return self.ask("POST", path, None if value is None else json.dumps(value).encode())


def receive_all(sock: socket.socket) -> bytes:
    """Read until the other side ends."""
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def receive_until(sock: socket.socket, end: bytes) -> bytes:
    """Read until *end* was read, and not a byte more."""
    data = b""
    while not data.endswith(end):
        part = sock.recv(1)
        assert part, f"ended before {end!r}: {data!r}"
        data += part
    return data


def descriptors() -> int:
    """Count this process's open descriptors."""
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def engine() -> FakeEngine:
    """Give the engine behind the server."""
    return FakeEngine()


@pytest.fixture
def server(tmp_path: Path, engine: FakeEngine) -> Iterator[Server]:
    """Serve; in the end no thread, no descriptor and no open source is left."""
    threads, files = set(threading.enumerate()), descriptors()
    Source.open_ones = 0
    server = Server(engine, listen(f"unix://{tmp_path}/api.sock"))
    server.start()
    yield server
    server.stop(grace_s=0)
    wait_until(lambda: set(threading.enumerate()) <= threads, "the end of the threads")
    wait_until(lambda: descriptors() <= files, "the descriptors to be closed")
    assert Source.open_ones == 0


@pytest.fixture
def wire(server: Server) -> Wire:
    """Give a client of raw bytes."""
    return Wire(server.listeners[0].address.removeprefix("unix://"))


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate authority, and a server's and a client's certificate."""
    where = tmp_path_factory.mktemp("tls")
    _openssl(where, "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=ca")
    for name in ("server", "client"):
        _openssl(
            where,
            f"req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}",
        )
        (where / "names").write_text("subjectAltName=IP:127.0.0.1")
        _openssl(
            where,
            f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem "
            "-extfile names",
        )
    return where


def _openssl(where: Path, command: str) -> None:
    subprocess.run(["openssl", *command.split()], cwd=where, check=True, capture_output=True)


@pytest.fixture
def tls_files(authority: Path) -> TlsFiles:
    """Give the server's files."""
    return TlsFiles(
        ca=f"{authority}/ca.pem", cert=f"{authority}/server.pem", key=f"{authority}/server.key"
    )
