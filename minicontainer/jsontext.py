"""Read and write JSON text by the C half of the standard library's json.

`import json` also loads re and enum, which are not used here: 5 ms, a quarter of a container's
start. Its C functions do the work either way.

See: RFC 8259.
"""

from __future__ import annotations

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_BLANK = " \t\n\r"


class _Settings:
    """The attributes that the scanner reads; json.JSONDecoder has the same names."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> None:
        """Refuse NaN and Infinity: they are Python's, not JSON's."""
        raise ValueError(f"{name} is not JSON")


_scan = _json.make_scanner(_Settings())  # type: ignore[arg-type]  # typeshed wants the result's type


def parse(text: str) -> Any:
    """Parse one JSON value.

    Raises:
        ValueError: it is not one; the position is named.
        RecursionError: it is nested too deeply.
    """
    start = len(text) - len(text.lstrip(_BLANK))
    try:
        value, end = _scanned(text, start)
    except StopIteration as stop:
        raise ValueError(f"expected a value at {_position(text, stop.value)}") from None
    if rest := text[end:].lstrip(_BLANK):
        where = _position(text, len(text) - len(rest))
        raise ValueError(f"unexpected content after JSON, at {where}")
    return value


def _scanned(text: str, start: int) -> tuple[Any, int]:
    try:
        return _scan(text, start)
    except SystemError:
        # Until Python 3.13, the C function fails to raise json's own error unless this is imported.
        import json.decoder  # noqa: F401  # here: only broken text needs it

        return _scan(text, start)


def _position(text: str, index: int) -> str:
    before = text[:index]
    return f"line {before.count(chr(10)) + 1}, column {index - before.rfind(chr(10))}"


def _encoder(quote: Callable[[str], str]) -> Callable[[Any, int], tuple[str, ...]]:
    made: Callable[[Any, int], tuple[str, ...]] = _json.make_encoder(
        None, str, quote, None, ":", ",", False, False, False
    )
    return made


_dump_ascii = _encoder(_json.encode_basestring_ascii)
_dump = _encoder(_json.encode_basestring)


def dump(value: Any, *, ascii: bool = True) -> str:
    """Write a value as JSON without blanks: scripts look for `"pid":1`, as runc writes it.

    A value that JSON does not have is written as its text.

    Args:
        value: dictionaries with text keys, lists, text, numbers, True, False, None.
        ascii: escape all other characters; otherwise they stay as they are, as with `quote`.
    """
    return "".join((_dump_ascii if ascii else _dump)(value, 0))


# Writes text as JSON; characters beyond ASCII are escaped, as `dump` does.
escaped: Callable[[str], str] = _json.encode_basestring_ascii
# Writes text as JSON; characters beyond ASCII stay as they are, and so do lone surrogates.
quote: Callable[[str], str] = _json.encode_basestring


def pretty(value: Any, indent: str = "    ", margin: str = "\n") -> str:
    """Write a value as JSON for people: one line for each member.

    Args:
        value: as for `dump`.
        indent: blanks for each level.
        margin: the line's end, and the blanks before it.
    """
    if not value or not isinstance(value, (dict, list)):
        return dump(value)
    deeper = margin + indent
    if isinstance(value, dict):
        parts = [f"{dump(key)}: {pretty(item, indent, deeper)}" for key, item in value.items()]
        opening, closing = "{}"
    else:
        parts = [pretty(item, indent, deeper) for item in value]
        opening, closing = "[]"
    return f"{opening}{deeper}{f',{deeper}'.join(parts)}{margin}{closing}"
