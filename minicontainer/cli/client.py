"""The engine's API from the client's side: HTTP/1.1 over a unix, TCP or TLS socket.

It is small so that it starts fast: `http.client` would take longer to import than `minicontainer
ps` takes altogether. Paths carry no version: the engine then speaks its newest one, which this
client understands from 1.24 on. A connection is kept and used again once its answer was read.

See: RFC 9112; Docker Engine API, "Versioning", "Attach to a container".
"""

from __future__ import annotations

import _socket

from minicontainer import jsontext, steps
from minicontainer.cli.exits import EXIT_FAILED, Lost
from minicontainer.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from minicontainer.cli.hosts import Address

    Query = Mapping[str, str | int | bool | list[str] | None]

UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}  # headers that turn HTTP into a raw stream
_BLOCK = 65536
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")


class EngineError(Error):
    """The engine refused a request.

    Args:
        status: of HTTP.
        message: what the engine says.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"Error response from daemon: {message}")
        self.status = status
        self.message = message


def quoted(text: str) -> str:
    """Write a text as a part of a URL's path or query."""
    raw = text.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)


def query_text(query: Query) -> str:
    """Write a query; an entry that is None, "" or False is left out, True is 1."""
    pairs: list[str] = []
    for key, value in query.items():
        values = value if isinstance(value, list) else [value]
        given = [one for one in values if one is not None and one is not False and one != ""]
        texts = ["1" if one is True else quoted(str(one)).replace("/", "%2F") for one in given]
        pairs += [f"{key}={text}" for text in texts]
    return "?" + "&".join(pairs) if pairs else ""


class Connection:
    """A socket to the engine, and what was read from it beyond what was wanted so far."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.buffer = b""

    def receive(self) -> bytes:
        """Give what is there, or comes next; b"" at the end."""
        if self.buffer:
            found, self.buffer = self.buffer, b""
            return found
        return self._more()

    def _more(self) -> bytes:
        try:
            received: bytes = self.socket.recv(_BLOCK)
        except ConnectionResetError:
            return b""
        return received

    def line(self) -> bytes:
        """Read up to the end of a line; give it without that."""
        while b"\n" not in self.buffer:
            more = self._more()
            if not more:
                raise Lost("the engine closed the connection in the middle of an answer")
            self.buffer += more
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.rstrip(b"\r")

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


class Response:
    """The head of an answer, and the way to its body.

    Args:
        connection: where the body comes from.
        release: takes the connection back once the body was read to its end.
        without_body: the answer to a HEAD, or one whose status allows none.
    """

    def __init__(
        self,
        connection: Connection,
        release: Callable[[Connection], None],
        without_body: bool,
    ) -> None:
        self._connection = connection
        self._release = release
        self.status = 100
        while self.status == 100:
            words = connection.line().split(b" ", 2)
            self.status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
            self.headers: dict[str, str] = {}
            while line := connection.line():
                name, _, value = line.partition(b":")
                self.headers[name.strip().lower().decode()] = value.strip().decode("latin-1")
        self._empty = without_body or self.status in (204, 304)

    def chunks(self) -> Iterator[bytes]:
        """Give the body as it arrives."""
        if self._empty:
            yield from ()
        elif self.headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunked()
        elif "content-length" in self.headers:
            yield from self._exactly(int(self.headers["content-length"]))
        else:
            while block := self._connection.receive():
                yield block
            self._connection.close()
            return
        if self.headers.get("connection", "").lower() == "close":
            self._connection.close()
        else:
            self._release(self._connection)

    def _chunked(self) -> Iterator[bytes]:
        while True:
            size = int(self._connection.line().partition(b";")[0] or b"0", 16)
            if size == 0:
                while self._connection.line():  # trailers
                    pass
                return
            yield from self._exactly(size)
            self._connection.line()

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size > 0:
            block = self._connection.receive()
            if not block:
                raise Lost("the engine closed the connection in the middle of an answer")
            self._connection.buffer = block[size:]
            yield block[:size]
            size -= len(block[:size])

    def read(self) -> bytes:
        """Read the body to its end."""
        return b"".join(self.chunks())

    def json(self) -> Any:
        """Read the body as JSON; None where it is empty."""
        body = self.read().decode("utf-8", "replace")
        return jsontext.parse(body) if body.strip() else None

    def messages(self) -> Iterator[Any]:
        """Read a body of many JSON objects, each as it arrives: they are a line each."""
        for lines in self.lines():
            yield from map(jsontext.parse, lines)

    def lines(self) -> Iterator[list[str]]:
        """Read a body line by line: each time those that have arrived, without empty ones."""
        rest = b""
        for block in self.chunks():
            *lines, rest = (rest + block).split(b"\n")
            yield [line.decode("utf-8", "replace") for line in lines if line.strip()]
        if rest.strip():
            yield [rest.decode("utf-8", "replace")]

    def detach(self) -> Connection:
        """Take the connection: what comes from now on is no HTTP."""
        return self._connection

    def close(self) -> None:
        """Leave the rest of the body unread."""
        self._connection.close()


class Client:
    """The way to one engine.

    Args:
        address: where it listens.
        start: begins it, where nothing answers there; None if that is not this client's to do.
    """

    def __init__(self, address: Address, start: Callable[[], None] | None = None) -> None:
        self.address = address
        self._start = start
        self._idle: list[Connection] = []
        self._ahead: list[Connection] = []  # nothing was sent there yet
        self._version = ""
        self.headers: dict[str, str] = {}  # of every request

    @property
    def version(self) -> tuple[int, int]:
        """Tell the engine's newest API version: (1, 50)."""
        if not self._version:
            self.request("HEAD", "/_ping").read()
        major, _, minor = (self._version or "1.24").partition(".")
        return int(major), int(minor)

    def get(self, path: str, query: Query | None = None) -> Any:
        """Ask for something: give the parsed answer."""
        return self.request("GET", path, query).json()

    def post(self, path: str, query: Query | None = None, body: Any = None) -> Any:
        """Have something done: give the parsed answer, None if there is none."""
        return self.request("POST", path, query, body).json()

    def delete(self, path: str, query: Query | None = None) -> Any:
        """Have something removed."""
        return self.request("DELETE", path, query).json()

    def request(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a request; give the answer as soon as its head has come.

        Args:
            path: its parts are quoted already, where they need it.
            body: sent as JSON; bytes as they are; an iterator of bytes is sent as it goes.
        Raises:
            EngineError: the engine answered with a status from 400 on.
            Lost: there is no engine, or it went away.
        """
        return self.begin(method, path, query, body, headers)()

    def begin(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Callable[[], Response]:
        """Send a request, as `request` does; give the function that waits for its answer."""
        if steps.listening():
            steps.take(send_request, method, path)
        all_headers = {**self.headers, **(headers or {})}
        receive = self._send(method, path + query_text(query or {}), body, all_headers)

        def answer() -> Response:
            response = receive()
            self._version = response.headers.get("api-version", self._version)
            if response.status >= 400:
                raise EngineError(response.status, _message(response))
            return response

        return answer

    def upgrade(self, path: str, query: Query | None = None, body: Any = None) -> Connection:
        """Turn a request into a raw stream in both directions: attach, exec."""
        return self.request("POST", path, query, body, UPGRADE).detach()

    def _send(
        self, method: str, target: str, body: Any, headers: dict[str, str]
    ) -> Callable[[], Response]:
        stream = body if hasattr(body, "__next__") else None
        payload = b"" if stream is not None else _payload(body, headers)
        if stream is not None:
            headers["Transfer-Encoding"] = "chunked"
        elif payload or method == "POST":
            headers["Content-Length"] = str(len(payload))
        lines = [f"{method} {target} HTTP/1.1", "Host: docker", "User-Agent: minicontainer"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        message = "\r\n".join([*lines, "", ""]).encode() + payload
        while self._idle:
            connection = self._idle.pop()
            try:
                connection.socket.sendall(message)
            except OSError:
                connection.close()  # the engine has closed it meanwhile
                continue
            if stream is None:
                return lambda: self._answer_or_again(connection, method, message)
            break
        else:
            connection = self._sent(message)
        if stream is not None:
            _send_chunks(connection, stream)
        return lambda: self._answer(connection, method)

    def _sent(self, message: bytes) -> Connection:
        """Send a request on a connection that had none yet."""
        while True:
            ahead = bool(self._ahead)
            connection = self._ahead.pop() if ahead else self.connect()
            try:
                connection.socket.sendall(message)
            except OSError:
                connection.close()
                if not ahead:  # those the engine closes when they are idle for long
                    raise Lost("the engine closed the connection before a request") from None
            else:
                return connection

    def _answer_or_again(self, connection: Connection, method: str, message: bytes) -> Response:
        """Receive an answer; send the request again if the engine had closed the connection."""
        try:
            return self._answer(connection, method)
        except (OSError, Lost):
            connection.close()
            return self._answer(self._sent(message), method)

    def _answer(self, connection: Connection, method: str) -> Response:
        return Response(connection, self._idle.append, without_body=method == "HEAD")

    def connect_ahead(self, count: int) -> None:
        """Open connections for requests to come, while the engine works on another one."""
        self._ahead += [self.connect() for _ in range(count)]

    def close_ahead(self) -> None:
        """Close what was opened ahead: an engine closes a connection that is idle for long."""
        while self._ahead:
            self._ahead.pop().close()

    def give_idle_to(self, other: Client) -> None:
        """Give another client of this engine the connections that are open and idle."""
        self._idle, other._idle = [], other._idle + self._idle

    def connect(self) -> Connection:
        """Open a connection; start the engine first, where it has to be and may be."""
        try:
            return Connection(_connect(self.address))
        except OSError as error:
            if self._start is None or not isinstance(
                error, (FileNotFoundError, ConnectionRefusedError)
            ):
                raise _unreachable(self.address, error) from None
        self._start()
        try:
            return Connection(_connect(self.address))
        except OSError as error:
            raise _unreachable(self.address, error) from None


def send_request(method: str, path: str) -> None:
    """Ask the engine: HTTP over its unix socket, as Docker's client does.

    The client does nothing itself. Whoever may write to that socket is root on this host.
    """
    steps.note(f"{method} {path}", (), None)


def _payload(body: Any, headers: dict[str, str]) -> bytes:
    if body is None:
        return b""
    if isinstance(body, bytes):
        return body
    headers.setdefault("Content-Type", "application/json")
    return jsontext.dump(body).encode()


def _send_chunks(connection: Connection, stream: Iterable[bytes]) -> None:
    """Send a body whose length nobody knows; an engine that has had enough says why."""
    try:
        for block in stream:
            if block:
                connection.socket.sendall(b"%x\r\n%b\r\n" % (len(block), block))
        connection.socket.sendall(b"0\r\n\r\n")
    except (BrokenPipeError, ConnectionResetError):
        pass  # its answer says more than this error


def _message(response: Response) -> str:
    body = response.read().decode("utf-8", "replace")
    try:
        message = jsontext.parse(body)["message"]
    except (ValueError, KeyError, TypeError):
        message = body.strip() or f"status {response.status}"
    return str(message)


def _connect(address: Address) -> Any:
    if address.path:
        plain = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            plain.connect(address.path)
        except OSError:
            plain.close()
            raise
        return plain
    from minicontainer.cli import remote  # a unix socket does without its 20 ms

    return remote.connect(address)


def _unreachable(address: Address, error: OSError) -> Lost:
    """Say why the engine can't be reached, and what to do."""
    if isinstance(error, PermissionError) and address.path:
        return Lost(
            f"permission denied at {address.url}: {_way_in(address.path)}", EXIT_FAILED, True
        )
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return Lost(
            f"Cannot connect to the Docker daemon at {address.url}. Is the docker daemon running?"
        )
    return Lost(f"can't connect to {address.url}: {error.strerror or error}", EXIT_FAILED, True)


def _way_in(path: str) -> str:
    """Tell who may use a socket: the members of its group, or root."""
    import os

    try:
        import grp  # C code, and no cost elsewhere

        group = grp.getgrgid(os.stat(path).st_gid).gr_name
    except (OSError, KeyError):
        group = "root"
    if group == "root":
        return "use sudo"
    return f"join the group {group} (sudo usermod -aG {group} $USER, then log in anew), or use sudo"
