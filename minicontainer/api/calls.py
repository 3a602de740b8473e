"""A call of the API: its parameters, typed and checked in Docker's words, and its answer.

See: Docker Engine API, "Errors"; the engine's own reading of booleans and numbers, which clients
rely on.
"""

from __future__ import annotations

import io
import re
from decimal import Decimal, InvalidOperation

from minicontainer import jsontext
from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from minicontainer.api.connection import Connection, Request
    from minicontainer.api.interface import Engine
    from minicontainer.record import Record

JSON_LIMIT = 4 * 1024 * 1024
JSON_TYPE = "application/json"

# What Python's reader of JSON misses, as Docker's says that it found something else.
_MISSED = {
    "Expecting property name enclosed in double quotes": (
        "looking for beginning of object key string"
    ),
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after a value",
    "Invalid control character at": "in string literal",
}
_FALSE = ("", "0", "no", "false", "none")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


class Answer:
    """What a handler returns.

    Args:
        status: of HTTP.
        body: all of it, or parts that are sent one by one as they come. An empty part is a sign of
            life of a source that waits: nothing is sent, but a client that left is noticed.
        content_type: "" for a body without one.
        headers: beside those that every answer has.
        early: send the status before the first part is there. Otherwise an error that comes instead
            of the first part still becomes a status.
        cleanup: an object whose `close` any thread may call: it ends the wait for the next part,
            and is called when the client leaves.
    """

    def __init__(
        self,
        status: int = 200,
        body: bytes | Iterable[bytes] = b"",
        content_type: str = "",
        headers: tuple[tuple[str, str], ...] = (),
        early: bool = False,
        cleanup: Any = None,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers
        self.early = early
        self.cleanup = cleanup
        self.source: object = None  # of a stream: closed at its end


def json_answer(value: Any, status: int = 200) -> Answer:
    """Answer with a JSON document; it ends in a newline, as Docker's does."""
    return Answer(status, jsontext.dump(value).encode() + b"\n", JSON_TYPE)


def error_answer(status: int, message: str) -> Answer:
    """Answer with an error, in the one shape that all clients read."""
    return json_answer({"message": message}, status)


NO_CONTENT = Answer(204)


class Call:
    """One request to one route.

    Args:
        engine: what does the work.
        version: of the API, as the path names it; the newest for a path without a version.
        names: what the route's pattern found in the path.
    """

    def __init__(
        self,
        engine: Engine,
        request: Request,
        connection: Connection,
        version: tuple[int, int],
        names: dict[str, str],
    ) -> None:
        self.engine = engine
        self.request = request
        self.connection = connection
        self.version = version
        self.names = names

    @property
    def name(self) -> str:
        """Give the name or ID in the path."""
        return self.names["name"]

    def text(self, name: str, default: str = "") -> str:
        """Give the first value of a parameter."""
        values = self.texts(name)
        return values[0] if values else default

    def texts(self, name: str) -> list[str]:
        """Give all values of a parameter."""
        values = self.request.query.get(name, [])
        if any("\0" in value for value in values):
            raise InvalidArgument(f'invalid value for "{name}": it holds a NUL character')
        return values

    def flag(self, name: str, default: bool = False) -> bool:
        """Read a boolean: false is "", 0, no, false or none in any case, true is all else."""
        if name not in self.request.query:
            return default
        return self.text(name).strip().lower() not in _FALSE

    def whole(self, name: str, default: int = 0) -> int:
        """Read a whole number; an empty one is the default."""
        text = self.text(name)
        return parse_whole(text, name) if text else default

    def optional_whole(self, name: str) -> int | None:
        """Read a whole number that may be left out."""
        return self.whole(name) if self.text(name) else None

    def time_ns(self, name: str) -> int:
        """Read a moment: seconds since the epoch, perhaps with decimals; 0 if it is left out."""
        text = self.text(name)
        try:
            return int(Decimal(text or "0") * 1_000_000_000)
        except (InvalidOperation, ValueError, OverflowError):
            raise InvalidArgument(f'invalid value for "{name}": {text}') from None

    def filters(self) -> dict[str, list[str]]:
        """Read the parameter `filters`, in both shapes that clients send."""
        return parse_filters(self.text("filters"))

    def stream(self) -> io.BufferedReader:
        """Give the body as a file, for bodies of any size."""
        return io.BufferedReader(self.request.body, 64 * 1024)

    def json(self, required: bool = True) -> Any:
        """Read the body as JSON.

        Args:
            required: raise for an empty body, where None would be returned.
        """
        text = self.request.body.read_all(JSON_LIMIT)
        if not text.strip():
            if required:
                raise InvalidArgument("invalid JSON: got EOF while reading request body")
            return None
        kind = self.request.headers.get("content-type", "")
        if kind.split(";")[0].strip().lower() != JSON_TYPE:
            raise InvalidArgument(
                f"unsupported Content-Type header ({kind}): must be 'application/json'"
            )
        try:
            return jsontext.parse(text.decode())
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"invalid JSON: {_in_dockers_words(error)}") from None

    def json_object(self, shape: type[Record], required: bool = True) -> dict[str, Any]:
        """Read the body as a JSON object; {} for an empty body that is not required.

        Args:
            shape: the types that its fields must have.
            required: raise for an empty body.
        """
        value = self.json(required)
        if value is None:
            if required:
                raise InvalidArgument("invalid JSON: expected an object, got null")
            return {}
        if not isinstance(value, dict):
            raise InvalidArgument(
                f"invalid JSON: expected an object, got {jsontext.dump(value)[:60]}"
            )
        value = shape.with_exact_names(value)
        shape.from_json(value)
        return dict(value)


def _in_dockers_words(error: Exception) -> str:
    """Say what is wrong with a JSON text, as Go does: `invalid character 'x' looking for …`."""
    words = _MISSED.get(getattr(error, "msg", ""))
    if words is None:
        return str(error)
    text, place = error.doc, error.pos  # type: ignore[attr-defined]  # of json.JSONDecodeError
    if place >= len(text):
        return "unexpected EOF"
    return f"invalid character {text[place]!r} {words}"


def parse_whole(text: str, name: str) -> int:
    """Read a whole number; Go's words when it is none."""
    if not _WHOLE.fullmatch(text):
        raise InvalidArgument(f'invalid value for "{name}": parsing "{text}": invalid syntax')
    return int(text)


def parse_filters(text: str) -> dict[str, list[str]]:
    """Read filters: `{"label": ["a=b"]}` of docker-py, `{"label": {"a=b": true}}` of the CLI."""
    if not text:
        return {}
    try:
        value = jsontext.parse(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"invalid filter: {error}") from None
    if not isinstance(value, dict):
        raise InvalidArgument("invalid filter: expected an object")
    return {name: _filter_values(name, told) for name, told in value.items()}


def _filter_values(name: str, told: Any) -> list[str]:
    if isinstance(told, dict) and all(isinstance(on, bool) for on in told.values()):
        return [value for value, on in told.items() if on]
    if isinstance(told, list) and all(isinstance(value, str) for value in told):
        return list(told)
    raise InvalidArgument(f"invalid filter '{name}': expected a list or an object of booleans")
