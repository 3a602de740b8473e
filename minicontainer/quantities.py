"""Quantities as people type them on a command line: sizes, counts, times.

Each function takes the text, and raises InvalidArgument.
"""

from __future__ import annotations

from minicontainer.errors import InvalidArgument

_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_HIGHEST = 2**63 - 1  # the limit of the kernel's counters
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def size(text: str) -> int:
    """Parse a number of bytes: 64m, 1.5g, 4096; a b or ib may follow the unit."""
    word = text.strip().lower()
    for ending in ("ib", "b"):
        if len(word) > len(ending) and word.endswith(ending) and word[-len(ending) - 1] in _UNITS:
            word = word.removesuffix(ending)
            break
    unit: int = _UNITS.get(word[-1:], 0)
    number = word[:-1] if unit else word
    whole, _, part = number.partition(".")
    if not (whole.isascii() and whole.isdecimal() and (part or "0").isdecimal()):
        raise InvalidArgument(f"invalid size: '{text}': use a number with b, k, m, g or t: 64m")
    scale = 10 ** len(part)  # whole numbers throughout: a float would round
    value: int = (int(whole) * scale + int(part or "0")) * (unit or 1) // scale
    if value > _HIGHEST:
        raise InvalidArgument(f"invalid size: '{text}': more than the kernel can count")
    return value


def size_or_unlimited(text: str) -> int:
    """Parse a size, or -1 for no limit."""
    return -1 if text == "-1" else size(text)


def whole_number(text: str) -> int:
    """Parse a whole number, which may be negative."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()):
        raise InvalidArgument(f"invalid number: '{text}'")
    return int(text)


def natural_number(text: str) -> int:
    """Parse a whole number from 0 on."""
    if (number := whole_number(text)) < 0:
        raise InvalidArgument(f"invalid number: '{text}': expected 0 or more")
    return number


def duration_s(text: str) -> float:
    """Parse a duration as Go writes it, in seconds: 5s, 500ms, 1m30s, 1.5h.

    Raises:
        InvalidArgument: it is not a duration, or not more than 0.
    """
    total, rest = 0.0, text
    while rest:
        number, rest = _cut(rest, "0123456789.")
        unit, rest = _cut(rest, "".join(_SECONDS))
        if unit not in _SECONDS or not number.strip(".") or number.count(".") > 1:
            total = 0.0
            break
        total += float(number) * _SECONDS[unit]
    if total <= 0:
        raise InvalidArgument(f"invalid time: '{text}': use one such as 5s, 500ms or 1m30s")
    return total


def _cut(text: str, characters: str) -> tuple[str, str]:
    """Split *text* after its first characters that are in *characters*."""
    rest = text.lstrip(characters)
    return text[: len(text) - len(rest)], rest
