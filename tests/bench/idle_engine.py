"""An engine that does nothing: what docker's client takes by itself, for whom it answers at once.

What is left of a command's time when this is taken away is the engine's. No engine can be faster
with that client.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socketserver
import tempfile
import threading
from collections.abc import Iterator

_ID = "0" * 64
_UPGRADED = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: str) -> None:
        super().__init__(path, _Handler)
        self.started = threading.Event()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers the requests of `docker run` and `docker exec`, as if all were done already."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Answer the ping."""
        self._answer(None)

    def do_GET(self) -> None:
        """Answer with an exec that has ended, or a container that runs."""
        if "/exec/" in self.path:
            self._answer({"ID": _ID, "Running": False, "ExitCode": 0, "ContainerID": _ID, "Pid": 1})
        else:
            self._answer({"Id": _ID, "Name": "/web", "State": {"Running": True}, "Config": {}})

    def do_POST(self) -> None:
        """Answer what changes something."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        if path.endswith("/attach"):
            self._upgrade()
            self.server.started.wait()
        elif "/exec/" in path:
            self._upgrade()
        elif path.endswith("/wait"):
            self._wait()
        elif path.endswith("/start"):
            self._answer(None, 204)
            self.server.started.set()
        else:
            self._answer({"Id": _ID, "Warnings": []}, 201)

    def _upgrade(self) -> None:
        self.wfile.write(_UPGRADED)
        self.close_connection = True

    def _wait(self) -> None:
        """Send the head at once, and the end when the container is started, as engines do."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.server.started.wait()
        said = b'{"StatusCode":0}\n'
        self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(said), said))

    def _answer(self, body: object, status: int = 200) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Api-Version", "1.41")
        self.send_header("Ostype", "linux")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def serving() -> Iterator[tuple[dict[str, str], threading.Event]]:
    """Serve; give the environment of a client, and what is to be cleared before each `run`."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        path = os.path.join(directory, "engine.sock")
        with _Server(path) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            environ = {"PATH": os.environ["PATH"], "HOME": directory}
            yield {**environ, "DOCKER_HOST": f"unix://{path}"}, server.started
            server.shutdown()
