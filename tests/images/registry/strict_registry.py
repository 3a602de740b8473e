"""A small registry that forgives nothing, and fails as it is told to.

It holds the specification against its client: each upload in order, each digest right, no
Authorization that was not asked for. Its faults are those of registries in the field: a connection
that breaks, a blob that is another, 429, a stall, a redirect to another host.

See: OCI distribution-spec.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tests.images.registry.images import Made

_TLS_HANDSHAKE = b"\x16"
_BLOB = re.compile(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})")
_MANIFEST = re.compile(r"/v2/(.+)/manifests/([^/]+)")
_UPLOADS = re.compile(r"/v2/(.+)/blobs/uploads/")
_UPLOAD = re.compile(r"/v2/(.+)/blobs/uploads/([0-9a-f-]{36})")


class Faults:
    """What goes wrong; each count goes down as it happens.

    Attributes:
        cut: connections that break after `cut_at` bytes of a blob, or of a chunk that is sent.
        wrong: blobs whose first byte is another.
        busy: answers of `busy_status`, with Retry-After.
        stall: blobs that stop after `cut_at` bytes, until the registry is closed.
        ranges: Range is understood; without, the whole blob is sent.
        range_refused: requests with a Range that are answered with 416.
        redirect: where blobs are redirected to: the URL of another registry.
        largest: bytes of the longest body that is taken; others get 413.
        lost_uploads: chunks that the registry forgets, upload and all.
        digest_header: the Docker-Content-Digest of manifests, if it is not the true one.
    """

    def __init__(self) -> None:
        self.cut = 0
        self.cut_at = 1000
        self.wrong = 0
        self.busy = 0
        self.busy_status = 429
        self.retry_after = ""
        self.stall = 0
        self.ranges = True
        self.range_refused = 0
        self.redirect = ""
        self.largest = 1 << 40
        self.lost_uploads = 0
        self.digest_header = ""

    def take(self, name: str) -> bool:
        """Say whether a fault happens now."""
        left = getattr(self, name)
        setattr(self, name, left - 1)
        return bool(left > 0)


class StrictRegistry:
    """A registry on a loopback port; in a `with`.

    Attributes:
        faults: what goes wrong.
        realm: where tokens come from; "" asks for none.
        tokens: the scopes that each token is good for.
        requests: method, path and headers of all that came.
        results: what a search finds, as JSON; None where the registry can't be searched.
        proxied: what clients that take it for a proxy put before the path.
    """

    def __init__(self) -> None:
        self.proxied = ""
        self.faults = Faults()
        self.realm = ""
        self.tokens: dict[str, set[str]] = {}
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.manifests: dict[tuple[str, str], tuple[bytes, str]] = {}
        self.uploads: dict[str, bytearray] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.results: list[dict[str, Any]] | None = None
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.registry = self
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> StrictRegistry:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def put(self, path: str, tag: str, image: Made) -> None:
        """Have an image here."""
        self.repositories.setdefault(path, {}).update(image.blobs)
        self.put_document(path, tag, image.manifest, image.media_type)

    def put_document(self, path: str, tag: str, content: bytes, media_type: str) -> None:
        """Have a manifest or an index here."""
        known = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.repositories.setdefault(path, {})
        self.manifests[path, tag] = self.manifests[path, known] = (content, media_type)

    def seen(self, method: str, part: str) -> list[dict[str, str]]:
        """Give the headers of the requests whose path has *part*."""
        return [headers for m, path, headers in self.requests if m == method and part in path]


class TokenServer:
    """Hands out tokens for a StrictRegistry; in a `with`.

    Attributes:
        users: passwords by name.
        private: paths of repositories that nobody without a name may see.
        requests: the query and the Authorization header of each request.
        refusal: status and body of every answer, where it gives no tokens.
    """

    def __init__(self, registry: StrictRegistry) -> None:
        self.refusal: tuple[int, bytes] | None = None
        self.users: dict[str, str] = {}
        self.private: set[str] = set()
        self.requests: list[tuple[dict[str, list[str]], str]] = []
        self.registry = registry
        self._server = _Server(("127.0.0.1", 0), _TokenHandler)
        self._server.tokens = self
        registry.realm = f"http://127.0.0.1:{self._server.server_address[1]}/token"

    def __enter__(self) -> TokenServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    registry: StrictRegistry
    tokens: TokenServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that hung up."""


class _Base(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        """Hang up on a client that speaks TLS: the base class would wait for a line."""
        super().setup()
        if self.connection.recv(1, socket.MSG_PEEK) == _TLS_HANDSHAKE:
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str, message: str, **headers: str) -> None:
        """Send an error as registries do."""
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self.answer(status, body, Content_Type="application/json", **headers)


class _TokenHandler(_Base):
    def do_GET(self) -> None:  # the base class names it
        """Hand out a token."""
        server = self.server.tokens
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        authorization = self.headers.get("Authorization", "")
        server.requests.append((query, authorization))
        if server.refusal:
            self.answer(*server.refusal)
            return
        scopes = query.get("scope", [])
        if authorization:
            name, _, password = base64.b64decode(authorization.split()[1]).decode().partition(":")
            if server.users.get(name) != password:
                self.answer(401, b'{"details": "incorrect username or password"}')
                return
        else:
            scopes = [x for x in scopes if x.split(":")[1] not in server.private]
        token = uuid.uuid4().hex
        server.registry.tokens[token] = set(scopes)
        self.answer(200, json.dumps({"token": token, "expires_in": 300}).encode())


class _Handler(_Base):
    def handle_one_request(self) -> None:
        """Note the request before it is handled."""
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._do
        raise AttributeError(name)

    def _do(self) -> None:
        registry = self.server.registry
        if registry.proxied:
            self.path = self.path.removeprefix(registry.proxied)
        registry.requests.append((self.command, self.path, dict(self.headers)))
        path, _, query = self.path.partition("?")
        values = dict(urllib.parse.parse_qsl(query))
        if registry.faults.take("busy"):
            self._drain()
            status = registry.faults.busy_status
            self.refuse(
                status, "TOOMANYREQUESTS", "slow down", Retry_After=registry.faults.retry_after
            )
            return
        if not self._is_allowed(path):
            self._drain()
            return
        if match := _UPLOADS.fullmatch(path):
            self._begin(match[1], values)
            return
        for pattern, handle in (
            (_UPLOAD, self._continue),
            (_BLOB, self._blob),
            (_MANIFEST, self._manifest),
        ):
            if match := pattern.fullmatch(path):
                handle(match[1], match[2], values)
                return
        if path == "/v1/search" and registry.results is not None:
            self.answer(200, json.dumps({"results": registry.results}).encode())
            return
        self.answer(200 if path == "/v2/" else 404, b"{}")

    def _drain(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _is_allowed(self, path: str) -> bool:
        """Check the token; send a challenge where it is not good enough."""
        registry = self.server.registry
        sent = self.headers.get("Authorization", "")
        if not registry.realm:
            if sent:
                self.refuse(400, "UNSUPPORTED", "authorization that was not asked for")
            return not sent
        match = re.match(r"/v2/(.+?)/(?:blobs|manifests)/", path)
        actions = "pull" if self.command in ("GET", "HEAD") else "pull,push"
        needed = f"repository:{match[1]}:{actions}" if match else ""
        granted = registry.tokens.get(sent.removeprefix("Bearer "))
        full = f"repository:{match[1]}:pull,push" if match else ""
        if granted is not None and (not needed or granted & {needed, full}):
            return True
        challenge = f'Bearer realm="{registry.realm}",service="strict",scope="{needed}"'
        self.refuse(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)
        return False

    # -- pull

    def _manifest(self, path: str, reference: str, _: dict[str, str]) -> None:
        registry = self.server.registry
        if self.command == "PUT":
            content = self.rfile.read(int(self.headers["Content-Length"]))
            registry.put_document(path, reference, content, self.headers["Content-Type"])
            self.answer(201)
            return
        found = registry.manifests.get((path, reference))
        if found is None:
            self.refuse(404, "MANIFEST_UNKNOWN", "manifest unknown")
            return
        content, media_type = found
        known = registry.faults.digest_header or f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.answer(200, content, Content_Type=media_type, Docker_Content_Digest=known)

    def _blob(self, path: str, digest: str, _: dict[str, str]) -> None:
        registry, faults = self.server.registry, self.server.registry.faults
        content = registry.repositories.get(path, {}).get(digest)
        if content is None:
            self.refuse(404, "BLOB_UNKNOWN", "blob unknown to registry")
            return
        if self.command == "HEAD":
            self.answer(200, Content_Length=str(len(content)))
            return
        if faults.redirect:
            self.answer(307, Location=faults.redirect + self.path)
            return
        if faults.take("wrong"):
            content = bytes([content[0] ^ 255]) + content[1:]
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and faults.ranges:
            start = int(asked[1])
            if faults.take("range_refused") or start >= len(content):
                self.refuse(416, "RANGE_INVALID", "no such range")
                return
        self._send_blob(content, start)

    def _send_blob(self, content: bytes, start: int) -> None:
        faults = self.server.registry.faults
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if len(content) - start > faults.cut_at:
            if faults.take("stall"):
                self.wfile.write(content[start : start + faults.cut_at])
                self.server.registry.closing.wait()
                return
            if faults.take("cut"):
                self.wfile.write(content[start : start + faults.cut_at])
                self.close_connection = True
                return
        self.wfile.write(content[start:])

    # -- push

    def _begin(self, path: str, values: dict[str, str]) -> None:
        registry = self.server.registry
        own = registry.repositories.setdefault(path, {})
        digest = values.get("mount", "")
        if content := registry.repositories.get(values.get("from", ""), {}).get(digest):
            own[digest] = content
            self.answer(201, Location=f"/v2/{path}/blobs/{digest}")
            return
        identifier = str(uuid.uuid4())
        registry.uploads[identifier] = bytearray()
        self.answer(202, Location=f"/v2/{path}/blobs/uploads/{identifier}?state=0")

    def _continue(self, path: str, identifier: str, values: dict[str, str]) -> None:
        registry, faults = self.server.registry, self.server.registry.faults
        received = registry.uploads.get(identifier)
        if received is None:
            self._drain()
            self.refuse(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
            return
        if int(values.get("state", "0")) != len(received) and self.command != "GET":
            self._drain()
            self.refuse(400, "BLOB_UPLOAD_INVALID", "an upload goes on at the last Location")
            return
        if self.command == "GET":
            self._tell_place(204, path, identifier)
            return
        length = int(self.headers["Content-Length"])
        if length > faults.largest:
            self._drain()
            self.answer(413)
            return
        if length > faults.cut_at and faults.take("cut"):
            received += self.rfile.read(faults.cut_at)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if self.command == "PATCH":
            self._chunk(path, identifier, received)
        else:
            received += self.rfile.read(length)
            self._end(path, identifier, values.get("digest", ""))

    def _chunk(self, path: str, identifier: str, received: bytearray) -> None:
        faults = self.server.registry.faults
        body = self.rfile.read(int(self.headers["Content-Length"]))
        first, _, last = self.headers.get("Content-Range", "").partition("-")
        if (first, last) != (str(len(received)), str(len(received) + len(body) - 1)):
            self._tell_place(416, path, identifier)
            return
        if faults.take("lost_uploads"):
            del self.server.registry.uploads[identifier]
            self.refuse(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
            return
        received += body
        self._tell_place(202, path, identifier)

    def _tell_place(self, status: int, path: str, identifier: str) -> None:
        length = len(self.server.registry.uploads[identifier])
        location = f"/v2/{path}/blobs/uploads/{identifier}?state={length}"
        self.answer(status, Location=location, Range=f"0-{max(length - 1, 0)}")

    def _end(self, path: str, identifier: str, digest: str) -> None:
        registry = self.server.registry
        content = bytes(registry.uploads.pop(identifier))
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            self.refuse(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
            return
        registry.repositories[path][digest] = content
        self.answer(201, Location=f"/v2/{path}/blobs/{digest}")


@contextlib.contextmanager
def serving() -> Iterator[StrictRegistry]:
    """Give a registry for the length of a block."""
    with StrictRegistry() as registry:
        yield registry
