"""What an answer's body is made of when it is a stream, and connections that become raw streams.

    stdcopy    [stream, 0, 0, 0, length as 4 bytes, big endian] payload      no terminal
    raw        the bytes of a terminal, as they are
    progress   one JSON object a line, ended by CR LF: pull, push, load, import, build

See: Docker Engine API, ContainerAttach, "Stream format".
"""

from __future__ import annotations

import logging
import struct

from minicontainer import jsontext
from minicontainer.api.calls import JSON_TYPE, Answer, Call
from minicontainer.api.connection import DRAIN_LIMIT, BadRequest, Disconnected
from minicontainer.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from minicontainer.api.connection import RawStream
    from minicontainer.engine.options import ClientStream

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
STDIN, STDOUT, STDERR, SYSTEM_ERROR = range(4)

_log = logging.getLogger(__name__)


def frame(stream: int, payload: bytes) -> bytes:
    """Wrap what was written to a stream at once."""
    return struct.pack(">BxxxI", stream, len(payload)) + payload


def stream_type(call: Call, tty: bool) -> str:
    """Name the format of a container's streams; clients before 1.42 know one name for both."""
    return MULTIPLEXED if not tty and call.version >= (1, 42) else RAW


def progress_answer(messages: Iterable[dict[str, Any]], *, errors_inside: bool = False) -> Answer:
    """Answer with progress messages; what fails after the first one is told in the stream.

    Args:
        errors_inside: tell an error in the stream also if it comes before the first message.
    """
    return Answer(200, _progress_lines(messages, errors_inside), JSON_TYPE)


def _progress_lines(messages: Iterable[dict[str, Any]], errors_inside: bool) -> Iterator[bytes]:
    started = False
    try:
        for message in messages:
            yield jsontext.dump(message).encode() + b"\r\n" if message else b""
            started = started or bool(message)
    except (Error, OSError) as error:
        if not started and (isinstance(error, BadRequest) or not errors_inside):
            raise
        text = str(error)
        told = {"errorDetail": {"message": text}, "error": text}
        yield jsontext.dump(told).encode() + b"\r\n"


def object_lines(items: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Write one JSON object a line; an empty object is a sign of life and is not sent."""
    for item in items:
        yield jsontext.dump(item).encode() + b"\n" if item else b""


def hijack(call: Call, tty: bool, serve: Callable[[ClientStream], None]) -> None:
    """Turn the connection into a raw stream, and let *serve* work on it until it is over.

    *serve* accepts the stream at the right moment. The answer is then 101 for a client that asked
    for an upgrade, and 200 for one that did not. An error that comes before is an HTTP status; one
    that comes later can be told only in the stream itself.
    """
    from minicontainer.api.relay import plain_stream  # here: it brings ssl

    if "content-length" in call.request.headers:  # dockerode's: it is no input of the program
        call.request.body.read_all(DRAIN_LIMIT)
    if "upgrade" in call.request.headers:
        line = "HTTP/1.1 101 UPGRADED"
        headers = [
            ("Content-Type", stream_type(call, tty)),
            ("Connection", "Upgrade"),
            ("Upgrade", "tcp"),
        ]
    else:
        line, headers = "HTTP/1.1 200 OK", [("Content-Type", RAW)]
    client = call.connection.raw_stream(line, headers)
    with plain_stream(call.connection, client) as stream:
        serve_stream(stream, tty, serve)


def serve_stream(stream: RawStream, tty: bool, serve: Callable[[ClientStream], None]) -> None:
    """Run *serve*; write an error into the stream, where the client's user can read it."""
    try:
        serve(stream)
        stream.accept()
    except Disconnected:
        return
    except (Error, OSError) as error:
        if not stream.accepted:
            raise
        _log.info("a stream failed: %s", error)
        message = f"{error}\r\n".encode()
        try:
            stream.socket.sendall(message if tty else frame(STDERR, message))
        except OSError:
            return  # nobody reads it
