"""What a registry answers when it refuses, and what is wrong with one that does not answer.

A registry's refusal is JSON, `{"errors": [{"code": "MANIFEST_UNKNOWN", "message": …}]}`. Docker
shows it as `manifest unknown: manifest unknown`, the code in small letters before the message;
clients search for these words.

See: OCI distribution-spec "Error Codes".
"""

from __future__ import annotations

import http
import json

from minicontainer.errors import Error, NotFound, Unauthorized, printable, shortened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.images.references import Reference

# What a status means where the registry does not say it in JSON.
_CODES = {
    401: ("UNAUTHORIZED", "authentication required"),
    403: ("DENIED", "requested access to the resource is denied"),
    429: ("TOOMANYREQUESTS", "the registry limits how much is asked of it"),
}


class Refused(Error):
    """A registry answered with an error.

    Args:
        status: the HTTP status.
        code: the registry's code, such as MANIFEST_UNKNOWN; "" where it gave none.
        message: the whole line for the user.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Unreachable(Error):
    """A registry can't be spoken to: no such host, no connection, or a certificate is wrong."""


class Interrupted(Error):
    """A connection ended before its answer was complete; to try again may help."""


class Stalled(Interrupted):
    """A registry sent nothing for so long that the connection was given up."""


def refused(
    method: str, url: str, status: int, body: bytes, is_authorized: bool = False
) -> Refused:
    """Make the error of an answer that is no success.

    Args:
        method: of the request.
        url: of the request.
        status: of the answer.
        body: its first bytes.
        is_authorized: the request had a token: a 401 then means that it does not reach that far.
    """
    code, message = _first_error(body)
    if status == 401 and is_authorized:
        code, message = _CODES[403]
    if not code and status in _CODES:
        code, message = _CODES[status]
    if code:
        line = f"{code.lower().replace('_', ' ')}: {message or 'no reason given'}"
        return Refused(status, code, shortened(printable(line), 1024))
    line = f'{method} "{url}": received unexpected HTTP status: {status} {_phrase(status)}'
    return Refused(status, "", shortened(printable(line), 1024))


def no_token(realm: str, status: int, body: bytes, has_password: bool) -> Refused:
    """Make the error of a token server that gives no token; its own words come first.

    Args:
        realm: its URL.
        status: of its answer.
        body: of its answer.
        has_password: the request had a password, or a token in its place.
    """
    code, message = _first_error(body)
    line = f"{code.lower().replace('_', ' ')}: {message or 'no reason given'}"
    if not code:
        code = "UNAUTHORIZED"
        line = f"unauthorized: {realm} answered with {status} {_phrase(status)}"
        if status in (401, 403) and has_password:
            line = "unauthorized: incorrect username or password"
        elif status == 401:
            line = f"unauthorized: {_CODES[401][1]}"
    return Refused(status, code, shortened(printable(line), 1024))


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"


def _first_error(body: bytes) -> tuple[str, str]:
    """Find code and message of the first error in an answer's body; "" for what is not there."""
    try:
        told = json.loads(body)
        if isinstance(told, dict) and isinstance(told.get("errors"), list):
            told = told["errors"][0]
        elif isinstance(told, dict) and isinstance(told.get("details"), str):  # a token server
            return "UNAUTHORIZED", told["details"]
        told = {str(name).lower(): value for name, value in told.items()}  # as Go reads names
        code, message = told["code"], told.get("message", "")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return "", ""
    return (str(code), str(message)) if isinstance(code, str) else ("", "")


def for_pull(error: Refused, reference: Reference) -> Error:
    """Say a registry's refusal as Docker says it of a pull."""
    name = reference.familiar_repository
    if error.code == "MANIFEST_UNKNOWN" or (error.status == 404 and not error.code):
        words = str(error) if error.code else "manifest unknown: manifest unknown"
        return NotFound(f"manifest for {reference.familiar} not found: {words}")
    if error.code == "NAME_UNKNOWN":
        return NotFound(f"repository {name} not found: {error}")
    if error.code == "DENIED" or error.status == 403:
        return NotFound(
            f"pull access denied for {name}, repository does not exist or may require "
            f"'docker login': {error}"
        )
    if error.code == "UNAUTHORIZED" or error.status == 401:
        return Unauthorized(str(error))
    return error


def for_push(error: Refused) -> Error:
    """Say a registry's refusal as Docker says it of a push."""
    if error.code == "UNAUTHORIZED" or error.status == 401:
        return Unauthorized(str(error))
    return error
