"""Sizes, ages and times, as Docker's client writes and reads them.

See: github.com/docker/go-units; Docker's `docker logs` reference, "--since".
"""

from __future__ import annotations

import time

from minicontainer import quantities
from minicontainer.errors import InvalidArgument

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def size(count: float, digits: int = 4) -> str:
    """Write a number of bytes in thousands: 1.24MB."""
    return _scaled(count, 1000.0, _DECIMAL, digits)


def binary_size(count: float, digits: int = 4) -> str:
    """Write a number of bytes in powers of 1024: 7.5MiB."""
    return _scaled(count, 1024.0, _BINARY, digits)


def _scaled(count: float, base: float, names: tuple[str, ...], digits: int) -> str:
    unit = 0
    while count >= base and unit < len(names) - 1:
        count /= base
        unit += 1
    return f"{count:.{digits}g}{names[unit]}"


def duration(seconds: float) -> str:
    """Write a length of time as people say it: About an hour."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < _MINUTE:
        return f"{whole} seconds"
    if whole // _MINUTE == 1:
        return "About a minute"
    if whole < _HOUR:
        return f"{whole // _MINUTE} minutes"
    hours = int(seconds / _HOUR + 0.5)
    if hours == 1:
        return "About an hour"
    for limit, divisor, name in (
        (48, 1, "hours"), (24 * 14, 24, "days"), (24 * 60, 24 * 7, "weeks"),
        (24 * 730, 24 * 30, "months"),
    ):  # fmt: skip
        if hours < limit:
            return f"{hours // divisor} {name}"
    return f"{hours // 24 // 365} years"


def ago(when: float) -> str:
    """Say how long a time of the epoch is past; "N/A" for none."""
    return f"{duration(time.time() - when)} ago" if when > 0 else "N/A"


def local_time(when: float) -> str:
    """Write a time of the epoch as Go does: 2024-05-01 10:00:00 +0000 UTC."""
    moment = time.localtime(when)
    return time.strftime("%Y-%m-%d %H:%M:%S %z ", moment) + (moment.tm_zone or "")


def local_time_exact(text: str, when: float) -> str:
    """Write a time of RFC 3339 as Go prints a time: with its nanoseconds, and its zone."""
    part = text.partition(".")[2].rstrip("Z").partition("+")[0].partition("-")[0].rstrip("0")
    moment = time.gmtime(when)
    return time.strftime("%Y-%m-%d %H:%M:%S", moment) + (f".{part}" if part else "") + " +0000 UTC"


def parse_time(text: str) -> float:
    """Read an RFC 3339 time as seconds of the epoch; 0 for none, or for Go's year 1."""
    if not text or text.startswith("0001-"):
        return 0.0
    main, zone = text.removesuffix("Z"), 0
    for sign in "+-":
        head, found, tail = main[10:].rpartition(sign)
        if found:
            hours, _, minutes = tail.partition(":")
            zone = (int(hours) * _HOUR + int(minutes or 0) * _MINUTE) * (1 if sign == "+" else -1)
            main = main[:10] + head
            break
    whole, _, part = main.partition(".")
    return _epoch(whole.replace("T", " ")) + float(f"0.{part or 0}") - zone


def _epoch(text: str) -> float:
    """Read YYYY-MM-DD[ HH[:MM[:SS]]] of UTC."""
    import calendar  # here: few commands read a time

    date, _, clock = text.partition(" ")
    year, month, day = (int(part) for part in date.split("-"))
    parts = [int(part) for part in clock.split(":")] if clock else []
    hour, minute, second = (*parts, 0, 0, 0)[:3]
    return calendar.timegm((year, month, day, hour, minute, second))


def timestamp(text: str) -> str:
    """Read what `--since` takes (a time, an age such as 10m, seconds), as the engine takes it.

    Gives:
        seconds of the epoch, with nanoseconds where there are any.
    """
    if not text:
        return ""
    if text.replace(".", "", 1).isdecimal() and "-" not in text:
        return text
    try:
        back = 0.0 if text == "0s" else quantities.duration_s(text)
    except InvalidArgument:
        pass
    else:
        return f"{time.time() - back:.9f}"
    try:
        local = not text.endswith("Z") and "+" not in text[10:] and "-" not in text[10:]
        found = parse_time(text)
        if local:
            found = time.mktime((*time.gmtime(found)[:8], -1)) + found % 1
    except ValueError:
        raise InvalidArgument(
            f'invalid value for a time: "{text}": use 10m or 2024-05-01T10:00:00'
        ) from None
    return f"{found:.9f}"


def short_id(identity: str) -> str:
    """Cut an ID as lists show it: twelve digits, without the algorithm."""
    return identity.partition(":")[2][:12] if identity.startswith("sha256:") else identity[:12]


def shortened(text: str, width: int) -> str:
    """Cut a text to *width* columns, the last of which then is an ellipsis."""
    return text if len(text) <= width else text[: width - 1] + "…"


def utc_time(when: float) -> str:
    """Write a time of the epoch in RFC 3339: 2024-05-01T10:00:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
