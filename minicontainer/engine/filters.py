"""Filters of lists and of prune, as the API's clients send them.

See: Docker Engine API, the parameter `filters`.
"""

from __future__ import annotations

import datetime
import re
import time

from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)")


def check_known(filters: Mapping[str, object], known: Iterable[str]) -> None:
    """Refuse a filter that a list does not have.

    Raises:
        InvalidArgument: `invalid filter 'x'`.
    """
    for name in filters:
        if name not in known:
            raise InvalidArgument(f"invalid filter '{name}'")


def has_labels(labels: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """Say whether labels hold each KEY, or KEY=VALUE, that is wanted."""
    for text in wanted:
        key, equals, value = text.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def is_true(filters: Mapping[str, list[str]], name: str) -> bool | None:
    """Read a filter that is true or false; None where it is not given.

    Raises:
        InvalidArgument: it is neither.
    """
    values = filters.get(name) or []
    if not values:
        return None
    if all(value.lower() in ("1", "t", "true") for value in values):
        return True
    if all(value.lower() in ("0", "f", "false") for value in values):
        return False
    raise InvalidArgument(f"invalid filter '{name}={values[0]}'")


def moment_s(text: str) -> float:
    """Read a time: seconds since the epoch, RFC 3339, or an age such as 1h30m.

    Raises:
        InvalidArgument: it is none of these.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return time.time() - sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    try:
        found = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise InvalidArgument(
            f"invalid time {text!r}: use a Unix time, 2030-01-02T03:04:05Z, or an age such as 1h30m"
        ) from None
    return found.astimezone().timestamp()
