"""Files of the web, read as they come: what `import` is given a URL for.

See: RFC 9110.
"""

from __future__ import annotations

import contextlib
import re

import httpx

from minicontainer.errors import Error, InvalidArgument, NotFound
from minicontainer.images.references import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minicontainer.images.blobs import Readable

# Seconds until there is a connection, and without a byte before it is given up.
_PATIENCE = httpx.Timeout(60.0, connect=15.0)
_NUMBER = re.compile(r"\[Errno -?\d+\] ")
_MOST_WORDS = 1024


@contextlib.contextmanager
def opened(
    url: str, teller: Callable[[int], Callable[[int], None]] = lambda total: lambda done: None
) -> Iterator[Readable]:
    """Ask for a file, and give it to read.

    Args:
        url: without a scheme, it is of http.
        teller: gets the number of bytes, 0 where nobody knows it; gives what hears how many are
            read.
    Raises:
        InvalidArgument: it is no URL of the web.
        NotFound: the server has no such file.
        Error: the server can't be reached, refuses or stalls.
    """
    place = read_url(url)
    # The bytes count as they are stored: a packed archive is unpacked by who reads it.
    headers = {"Accept-Encoding": "identity"}
    try:
        with (
            httpx.Client(timeout=_PATIENCE, follow_redirects=True) as client,
            client.stream("GET", place, headers=headers) as answer,
        ):
            if answer.is_error:
                raise _refusal(place, answer)
            length = answer.headers.get("Content-Length", "")
            yield _Stream(answer, teller(int(length) if length.isdecimal() else 0))
    # UnicodeError: of the resolver, for a name that has too long a part
    except (httpx.TransportError, httpx.TooManyRedirects, UnicodeError) as error:
        words = _NUMBER.sub("", str(error)) or type(error).__name__
        raise Error(f"cannot download {without_login(place)}: {words}") from None


def read_url(text: str) -> str:
    """Complete a URL, and check it.

    Raises:
        InvalidArgument: it is none, or not one of the web.
    """
    try:
        place = httpx.URL(text if "://" in text else f"http://{text}")
    except httpx.InvalidURL as error:
        raise InvalidArgument(f"invalid URL {shown(text)}: {error}") from None
    if place.scheme not in ("http", "https") or not place.host:
        raise InvalidArgument(f"invalid URL {shown(text)}: use http:// or https://")
    return str(place)


def without_login(url: str) -> str:
    """Leave the name and password out of a URL that is shown."""
    return str(httpx.URL(url).copy_with(userinfo=b""))


def _refusal(place: str, answer: httpx.Response) -> Error:
    words, page = "", answer.headers.get("Content-Type", "").startswith("text/html")
    with contextlib.suppress(httpx.TransportError, StopIteration):
        words = (
            "" if page else next(answer.iter_raw(_MOST_WORDS)).decode("utf-8", "replace").strip()
        )
    status = f"{answer.status_code} {answer.reason_phrase}".strip()
    kind = NotFound if answer.status_code == 404 else Error
    told = f": {shown(words)}" if words else ""
    return kind(f"failed to GET {without_login(place)} with status {status}{told}")


class _Stream:
    """The body of an answer, as a file."""

    def __init__(self, answer: httpx.Response, tell: Callable[[int], None]) -> None:
        self._parts = answer.iter_raw()
        self._tell = tell
        self._done = 0
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """Read up to *size* bytes; b"" at the end."""
        if not self._rest:
            self._rest = next(self._parts, b"")
            self._done += len(self._rest)
            self._tell(self._done)
        part, self._rest = self._rest[:size], self._rest[size:]
        return part
