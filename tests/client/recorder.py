"""A small server that stands in for an engine: it keeps what it is sent, answers from a table."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any


class Recorder(socketserver.ThreadingUnixStreamServer):
    """An engine that creates nothing: each create is kept, and answered with an ID.

    Args:
        path: of its socket.
        known: what it answers to GET, by path.
    """

    daemon_threads = True

    def __init__(self, path: str, known: Mapping[str, Any]) -> None:
        self.kept: list[tuple[str, Any]] = []
        self.known = known
        super().__init__(path, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that has gone."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        path = re.sub(r"^/v1\.\d+", "", self.path.partition("?")[0])
        found = self.server.known.get(path)
        missing = {"message": f"no such thing: {path}"}
        self._answer(
            json.dumps(missing if found is None else found).encode(), 200 if found else 404
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.kept.append((self.path.partition("?")[2], json.loads(body)))
        self._answer(b'{"Id": "abc", "Warnings": []}', 201)

    def _answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Api-Version", "1.50")
        self.send_header("Ostype", "linux")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        """A unix socket's client has no address."""
        return "client"

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(socket: Path, known: Mapping[str, Any]) -> Iterator[Recorder]:
    """Run a stand-in."""
    server = Recorder(str(socket), known)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
