"""How a registry learns who asks: the Authorization header of each request.

    client                     registry                        token server (the "realm")
      │ GET /v2/x/manifests/1     │                                │
      │ ────────────────────────► │                                │
      │ 401 WWW-Authenticate: Bearer realm="…",service="…",scope="repository:x:pull"
      │ ◄──────────────────────── │                                │
      │ GET realm?service=…&scope=repository:x:pull   (Basic, if we have a password)
      │ ─────────────────────────────────────────────────────────► │
      │ {"token": "…", "expires_in": 300}                          │
      │ ◄───────────────────────────────────────────────────────── │
      │ GET … Authorization: Bearer …                              │
      │ ────────────────────────► │

A registry that asks for `Basic` gets the password itself. A token is kept until it expires.

See: distribution "Token Authentication Specification"; RFC 7617; RFC 9110 section 11.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time

from minicontainer.errors import Unauthorized
from minicontainer.images.registry_errors import no_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.images.credentials import Credentials

    # method, URL, query or form, headers -> status, body
    Fetch = Callable[[str, str, list[tuple[str, str]], dict[str, str]], tuple[int, bytes]]

CLIENT_ID = "minicontainer"
_SHORTEST_LIFE_S = 60  # the specification's default, and Docker's minimum
_MARGIN_S = 10  # a token that ends within this time is replaced
_CHALLENGE = re.compile(r"""\s*,?\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?:\s+|(?=,)|$)""")
_PARAMETER = re.compile(
    r"""\s*,?\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))"""
)


def challenges(header: str) -> dict[str, dict[str, str]]:
    """Read a WWW-Authenticate header: scheme in small letters to its parameters."""
    found: dict[str, dict[str, str]] = {}
    place = 0
    while match := _CHALLENGE.match(header, place):
        place = match.end()
        parameters = found.setdefault(match[1].lower(), {})
        while pair := _PARAMETER.match(header, place):
            place = pair.end()
            value = pair[3] if pair[2] is None else re.sub(r"\\(.)", r"\1", pair[2])
            parameters[pair[1].lower()] = value
    return found


def basic(username: str, password: str) -> str:
    """Give the value of an Authorization header with a password."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


class Authorizer:
    """Knows the Authorization header for each scope of one registry; threads may share it.

    Args:
        credentials: who asks; None asks without a name.
        fetch: makes one request to a token server.
    """

    def __init__(self, credentials: Credentials | None, fetch: Fetch) -> None:
        self._credentials = credentials
        self._fetch = fetch
        self._lock = threading.Lock()
        self._challenge: dict[str, dict[str, str]] = {}
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}

    def header(self, scopes: tuple[str, ...]) -> str:
        """Give the header for a request, as far as it is known without asking; "" if it is not."""
        with self._lock:
            if "bearer" not in self._challenge:
                return self._basic_header() if "basic" in self._challenge else ""
            token, end = self._tokens.get(scopes, ("", 0.0))
            if token and time.monotonic() < end:
                return f"Bearer {token}"
            return self._new_token(scopes)

    def answer(self, challenge: str, scopes: tuple[str, ...], sent: str) -> str:
        """Give the header that answers a 401.

        Args:
            challenge: its WWW-Authenticate header.
            scopes: what the request needs.
            sent: the header that was not good enough.
        Returns:
            "" where there is none, or no other than *sent*.
        Raises:
            Refused: the token server refuses. Unauthorized: its answer has no token.
        """
        with self._lock:
            self._challenge = challenges(challenge)
            if "bearer" in self._challenge:
                token, _ = self._tokens.get(scopes, ("", 0.0))
                if token and f"Bearer {token}" != sent:
                    return f"Bearer {token}"  # another thread has answered the same challenge
                new = self._new_token(scopes)
            else:
                new = self._basic_header() if "basic" in self._challenge else ""
            return "" if new == sent else new

    def _basic_header(self) -> str:
        known = self._credentials
        return basic(known.username, known.password) if known and known.username else ""

    def _new_token(self, scopes: tuple[str, ...]) -> str:
        """Fetch a token, and keep it."""
        known = self._credentials
        if known and known.registry_token:
            return f"Bearer {known.registry_token}"
        parameters = self._challenge["bearer"]
        realm = parameters.get("realm", "")
        if not realm.startswith(("https://", "http://")):
            raise Unauthorized(f"registry names no token server that can be used: realm {realm!r}")
        wanted = scopes or tuple(filter(None, (parameters.get("scope", ""),)))
        query = [("service", parameters["service"])] if parameters.get("service") else []
        headers: dict[str, str] = {}
        if known and known.identity_token:  # OAuth 2: a form, and the scopes in one field
            method = "POST"
            query += [("grant_type", "refresh_token"), ("client_id", CLIENT_ID)]
            query += [("refresh_token", known.identity_token), ("scope", " ".join(wanted))]
        else:
            method = "GET"
            query += [("scope", scope) for scope in wanted]
            if known and known.username:
                query += [("account", known.username)]
                headers["Authorization"] = basic(known.username, known.password)
        status, body = self._fetch(method, realm, query, headers)
        if status != 200:
            raise no_token(realm, status, body, has_password=bool(known))
        token, life_s = _read_token(body, realm)
        self._tokens[scopes] = (token, time.monotonic() + life_s - _MARGIN_S)
        return f"Bearer {token}"


def _read_token(body: bytes, realm: str) -> tuple[str, float]:
    """Find a token and its seconds of life in a token server's answer."""
    try:
        told = json.loads(body)
        token = told.get("token") or told.get("access_token")
        life_s = float(told.get("expires_in") or 0)
    except (ValueError, TypeError, AttributeError, RecursionError):
        token, life_s = "", 0.0
    if not isinstance(token, str) or not token or not (token.isascii() and token.isprintable()):
        raise Unauthorized(
            f"unauthorized: {realm}: authorization server did not include a token in the response"
        )
    return token, max(life_s, _SHORTEST_LIFE_S)
