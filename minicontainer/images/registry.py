"""One registry, spoken to over HTTP: requests with authorization, redirects, retries, time limits.

What a registry has (manifests, blobs, uploads) is in `downloads.py` and `uploads.py`; here is how a
request reaches it. Threads may share a `Registry`.

- An answer of 401 is followed by the token dance (`registry_auth.py`), once.
- A redirect is followed; another host never sees the Authorization header.
- 429 and 5xx are tried again, after the time that Retry-After names or a growing one.
- A registry that sends nothing for `Patience.stall_s` seconds is given up.

See: OCI distribution-spec; RFC 9110.
"""

from __future__ import annotations

import contextlib
import email.utils
import random
import socket
import threading
import time

import httpx

from minicontainer.errors import Error
from minicontainer.images import registry_endpoints as endpoints
from minicontainer.images.registry_auth import Authorizer, challenges
from minicontainer.images.registry_connections import Connections, Patience, Settings, host_of
from minicontainer.images.registry_errors import Interrupted, Refused, Stalled, Unreachable, refused

__all__ = ("Patience", "Registry", "Settings")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from minicontainer.images.credentials import Credentials

    Response = httpx.Response
    Content = bytes | Callable[[], Iterator[bytes]] | None

_USER_AGENT = "minicontainer"
_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 10
_TRANSIENT = {408, 500, 502, 503, 504}
_TOO_MANY_REQUESTS = 429
_BODY_LIMIT = 4 << 20  # bytes of an answer that is held in memory, as Docker limits manifests
_ERROR_LIMIT = 64 << 10  # bytes of an error's body that are read


class Registry:
    """A client of one registry; close it, or use it in a `with`.

    Args:
        domain: as in a reference: `docker.io`, `127.0.0.1:5000`.
        credentials: who asks; None asks without a name.
        settings: what is configured about registries.
    """

    def __init__(
        self,
        domain: str,
        credentials: Credentials | None = None,
        settings: Settings = Settings(),  # noqa: B008  # a Record is frozen
    ) -> None:
        self.domain = domain
        self._settings = settings
        self._patience = settings.patience
        self._connections = Connections(domain, settings)
        self._authorizer = Authorizer(credentials, self._fetch_token)
        self._lock = threading.Lock()
        self._open: set[httpx.Response] = set()
        self.stopped = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; no thread may be in a request any more."""
        self._connections.close()

    def stop(self) -> None:
        """End every request that other threads are in: they raise Interrupted."""
        self.stopped.set()
        with self._lock:
            for response in self._open:
                stream = response.extensions.get("network_stream")
                connection = stream.get_extra_info("socket") if stream else None
                if connection is not None:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)

    # -- requests

    @contextlib.contextmanager
    def open(
        self,
        method: str,
        url: str,
        *,
        scopes: tuple[str, ...] = (),
        headers: dict[str, str] | None = None,
        content: Content = None,
        again: bool = True,
    ) -> Iterator[httpx.Response]:
        """Make a request; give its answer, whatever its status, with the body still to be read.

        Args:
            method: GET, HEAD, POST, PATCH, PUT.
            url: a path from `/v2/` on, or a whole URL that the registry gave.
            scopes: what it needs, as tokens name it: `repository:library/mongo:pull`.
            headers: more headers.
            content: the body: bytes, or a function that gives an iterator of them, and that is
                called for each attempt; Content-Length is in *headers* then.
            again: a failure that passes is tried again; False where half of the request may have
                had its effect.
        Raises:
            Unreachable, Interrupted, Stalled: there is no answer.
            Refused, Unauthorized: the token server gives no token.
        """
        response = self._patiently(method, url, scopes, headers or {}, content, again)
        with self._lock:
            self._open.add(response)
        try:
            yield response
        except httpx.TransportError as error:  # while the caller read the body
            raise self._connections.error(error) from error
        finally:
            with self._lock:
                self._open.discard(response)
            response.close()

    def call(
        self,
        method: str,
        url: str,
        expected: tuple[int, ...],
        *,
        scopes: tuple[str, ...] = (),
        headers: dict[str, str] | None = None,
        content: Content = None,
        again: bool = True,
    ) -> tuple[int, httpx.Headers, bytes]:
        """Make a request, and read its answer: status, headers, body.

        Args:
            expected: the statuses that are no error.

        The others are those of `open`.

        Raises:
            Refused: the status is another one. Error: the body is longer than 4 MiB.
        """
        with self.open(
            method, url, scopes=scopes, headers=headers, content=content, again=again
        ) as response:
            if response.status_code not in expected:
                raise self.refusal(response)
            body = b""
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > _BODY_LIMIT:
                    raise Error(f"the answer of registry {self.domain} is larger than 4 MiB")
            return response.status_code, response.headers, body

    def refusal(self, response: httpx.Response) -> Error:
        """Make the error of an answer that is no success; it reads the body."""
        body = b""
        with contextlib.suppress(httpx.TransportError):
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > _ERROR_LIMIT:
                    break
        request = response.request
        asked = challenges(response.headers.get("WWW-Authenticate", ""))
        if response.status_code == 401 and "basic" in asked and not _has_password(request):
            line = f'{request.method.capitalize()} "{request.url}": no basic auth credentials'
            return Refused(401, "UNAUTHORIZED", line)  # Docker's words
        has_token = request.headers.get("Authorization", "").startswith("Bearer ")
        return refused(request.method, str(request.url), response.status_code, body, has_token)

    def base(self) -> str:
        """Give the registry's URL."""
        return self._connections.base()

    def pause(self, attempt: int, error: Error | None = None, header: str = "") -> None:
        """Wait before an attempt is repeated.

        Args:
            attempt: 0 after the first.
            error: why; raised where the registry asks for more time than it gets.
            header: the registry's Retry-After.
        Raises:
            Interrupted: the registry's client was stopped meanwhile.
        """
        wait_s = self._patience.backoff_s * 2**attempt * random.uniform(0.75, 1.25)
        asked_s = _retry_after_s(header)
        if asked_s > self._patience.longest_wait_s and error:
            raise error
        if self.stopped.wait(max(wait_s, asked_s)):
            raise Interrupted(f"the request to registry {self.domain} was cancelled")

    # -- one request, step by step

    def _patiently(
        self,
        method: str,
        url: str,
        scopes: tuple[str, ...],
        headers: dict[str, str],
        content: Content,
        again: bool,
    ) -> httpx.Response:
        """Repeat a request while it fails in a way that may pass."""
        attempts = self._patience.attempts
        for attempt in range(attempts):
            if self.stopped.is_set():
                raise Interrupted(f"the request to registry {self.domain} was cancelled")
            last = attempt == attempts - 1
            try:
                response = self._authorized(method, url, scopes, headers, content)
            except httpx.TransportError as error:
                mine = self._connections.error(error)
                # A connection that can't be made, and a stall, have been waited for already.
                if last or not again or isinstance(mine, Unreachable | Stalled):
                    raise mine from error
                self.pause(attempt)
                continue
            status = response.status_code
            transient = status == _TOO_MANY_REQUESTS or (again and status in _TRANSIENT)
            if last or not transient:
                return response
            with contextlib.closing(response):
                self.pause(attempt, self.refusal(response), response.headers.get("Retry-After", ""))
        raise AssertionError("a loop over attempts ends by a return or an error")

    def _authorized(
        self,
        method: str,
        url: str,
        scopes: tuple[str, ...],
        headers: dict[str, str],
        content: Content,
    ) -> httpx.Response:
        """Make a request with the authorization that is known; answer a challenge once."""
        url = url if "://" in url else self.base() + url
        sent = self._authorizer.header(scopes) if self._connections.is_own(url) else ""
        response = self._following(method, url, headers, sent, content)
        challenge = response.headers.get("WWW-Authenticate", "")
        if (
            response.status_code != 401
            or not challenge
            or not self._connections.is_own(str(response.url))
        ):
            return response
        with contextlib.ExitStack() as closing:
            closing.callback(response.close)
            answer = self._authorizer.answer(challenge, scopes, sent)
            if not answer:
                closing.pop_all()
                return response
        return self._following(method, url, headers, answer, content)

    def _following(
        self, method: str, url: str, headers: dict[str, str], authorization: str, content: Content
    ) -> httpx.Response:
        """Make a request, and follow redirects of one that only reads."""
        place = self._next(httpx.URL(self.base()), url)
        for _ in range(_MOST_REDIRECTS):
            sent = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity", **headers}
            if authorization and self._connections.is_own(str(place)):
                sent["Authorization"] = authorization
            client = self._connections.client(place)
            body = content() if callable(content) else content
            request = client.build_request(method, place, headers=sent, content=body)
            response = client.send(request, stream=True, auth=None)
            target = response.headers.get("Location", "")
            if response.status_code not in _REDIRECTS or method not in ("GET", "HEAD"):
                return response
            response.close()
            place = self._next(place, target)
        raise Error(f"registry {self.domain} redirects more than {_MOST_REDIRECTS} times")

    def _next(self, place: httpx.URL, target: str) -> httpx.URL:
        """Say where an answer leads, a redirect or the place of an upload.

        Raises:
            Error: it is no URL, or it leaves TLS.
        """
        try:
            new = place.join(target)
        except httpx.InvalidURL as error:
            raise Error(f"registry {self.domain} leads to {target[:256]!a}: {error}") from error
        if new.scheme not in ("http", "https") or not new.host:
            raise Error(f"registry {self.domain} leads to {target[:256]!a}, which is no URL")
        other = endpoints.endpoint(host_of(new), self._settings.insecure)
        if place.scheme == "https" and new.scheme == "http" and not other.plain:
            raise Error(f"registry {self.domain} leads from https to plain http, at {other.host}")
        return new

    def _fetch_token(
        self, method: str, realm: str, query: list[tuple[str, str]], headers: dict[str, str]
    ) -> tuple[int, bytes]:
        """Make one request to a token server; a password is not sent there without TLS."""
        place = httpx.URL(realm)
        server = endpoints.endpoint(host_of(place), self._settings.insecure)
        secret = "Authorization" in headers or method == "POST"
        if secret and place.scheme == "http" and not server.plain:
            raise Error(f"token server {realm} of registry {self.domain} does not use https")
        sent = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity", **headers}
        client = self._connections.client(place)
        if method == "POST":
            request = client.build_request("POST", place, data=dict(query), headers=sent)
        else:
            for name, value in query:
                place = place.copy_add_param(name, value)
            request = client.build_request("GET", place, headers=sent)
        response = client.send(request, auth=None)
        return response.status_code, response.content


def _has_password(request: httpx.Request) -> bool:
    return bool(request.headers.get("Authorization"))


def _retry_after_s(header: str) -> float:
    """Read a Retry-After header: seconds, or a date; 0 where it is neither."""
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0
