"""The functions of templates, and how Go prints a value.

See: pkg.go.dev/text/template "Functions"; pkg.go.dev/fmt; Docker's "Format command and log output".
"""

from __future__ import annotations

import _json

from minicontainer import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# What Docker has as a map, where the same JSON object could be a struct; Go prints them apart.
_MAPS = frozenset((
    "Labels", "Annotations", "Volumes", "ExposedPorts", "Ports", "PortBindings", "Networks",
    "Sysctls", "Tmpfs", "StorageOpt", "Data", "DriverOpts", "Options", "Containers", "Details",
))  # fmt: skip
# Go's pointers: JSON leaves them out, or has null, where they point to nothing.
POINTERS = frozenset((
    "Init", "Health", "Healthcheck", "OomKillDisable", "PidsLimit", "MemorySwappiness",
    "IPAMConfig", "StopTimeout", "UsageData", "ContainerConfig",
))  # fmt: skip


class Struct(dict):  # type: ignore[type-arg]  # its values are whatever JSON holds
    """A JSON object that Go has as a struct: printed `{a b}`, and not `map[x:a y:b]`."""


class Null:
    """A JSON null under a name that tells what Go has there: a nil map, slice or pointer."""

    def __init__(self, name: str, absent: bool = False) -> None:
        self.absent = absent
        self.text = "map[]" if name in _MAPS else "<nil>" if name in POINTERS else "[]"

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0


class FunctionError(Exception):
    """A function can't do what a template asks of it."""


def typed(name: str, value: Any) -> Any:
    """Tell of a member's value what Go would have there."""
    if value is None:
        return Null(name)
    if isinstance(value, dict) and not isinstance(value, Struct) and name not in _MAPS:
        return Struct(value)
    return value


def printed(value: Any, top: bool = True) -> str:
    """Write a value as Go's fmt.Print does."""
    if value is None:
        return "<no value>" if top else "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Null):
        return value.text
    if isinstance(value, Struct):
        return "{" + " ".join(_member(name, item) for name, item in value.items()) + "}"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_member('', value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(_member("", item) for item in value) + "]"
    if hasattr(value, "plain"):
        return printed(value.plain())
    return str(value)


def _member(name: str, value: Any) -> str:
    return printed(typed(name, value), top=False)


def _float(value: float) -> str:
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    return repr(value)


def to_json(value: Any) -> str:
    """Write JSON as Docker's `json` does: nothing but quotes and control characters is escaped."""
    if hasattr(value, "json_text"):
        return str(value.json_text())
    if isinstance(value, Null):
        return "null"
    escape: Any = _json.encode_basestring
    encoder = _json.make_encoder(None, str, escape, None, ":", ",", False, False, False)
    return "".join(encoder(value, 0))


def html_escaped(text: str) -> str:
    """Escape what could be HTML in JSON, as Go does."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def is_true(value: Any) -> bool:
    """Say whether Go's templates take a value for true."""
    return True if hasattr(value, "plain") else bool(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, (dict, Null)):
            found = value.get(str(key)) if isinstance(value, dict) else None
            value = typed(str(key), found) if found is not None else ""
        elif isinstance(value, (list, tuple, str)):
            if not isinstance(key, int) or not 0 <= key < len(value):
                raise FunctionError(f"error calling index: index out of range: {printed(key)}")
            value = typed("", value[key]) if not isinstance(value, str) else ord(value[key])
        else:
            raise FunctionError("error calling index: can't index item of type " + _type(value))
    return value


def _type(value: Any) -> str:
    kinds = (
        (bool, "bool"), (int, "int"), (float, "float64"), (str, "string"),
        (list, "[]interface {}"), (dict, "map[string]interface {}"),
    )  # fmt: skip
    return next((name for kind, name in kinds if isinstance(value, kind)), "nil")


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def _slice(value: Any, *bounds: int) -> Any:
    first, last = (*bounds, 0, len(value))[:2] if len(bounds) != 1 else (bounds[0], len(value))
    for bound in (first, last):
        if not 0 <= bound <= len(value):
            raise FunctionError(f"error calling slice: index out of range: {bound}")
    return value[first:last]


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    try:
        return len(value)
    except TypeError:
        raise FunctionError(f"error calling len: len of type {_type(value)}") from None


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise FunctionError("error calling eq: missing argument for comparison")
    return any(_same_kind(first, other) and first == other for other in others)


def _same_kind(one: Any, other: Any) -> bool:
    if one is None or other is None or isinstance(one, Null) or isinstance(other, Null):
        return True
    numbers = isinstance(one, (int, float)) and isinstance(other, (int, float))
    if isinstance(one, bool) != isinstance(other, bool) or not (
        numbers or type(one) is type(other)
    ):
        raise FunctionError("error calling eq: incompatible types for comparison")
    return True


def _compared(name: str, test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(one: Any, other: Any) -> bool:
        try:
            return test(one, other)
        except TypeError:
            raise FunctionError(
                f"error calling {name}: incompatible types for comparison"
            ) from None

    return compare


def _printed_all(*values: Any) -> str:
    """Print as fmt.Sprint: a blank between two operands that are no texts."""
    text = ""
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            text += " "
        text += printed(value, top=False)
    return text


def _printf(pattern: str, *values: Any) -> str:
    """Print as fmt.Sprintf, with the verbs that templates use."""
    text, rest, given = "", pattern, list(values)
    while "%" in rest:
        before, _, rest = rest.partition("%")
        text += before
        flags = rest[: len(rest) - len(rest.lstrip("-+# 0123456789."))]
        verb, rest = rest[len(flags) : len(flags) + 1], rest[len(flags) + 1 :]
        if verb == "%":
            text += "%"
        elif not given:
            text += f"%!{verb}(MISSING)"
        else:
            text += _verb(verb, flags, given.pop(0))
    extra = ", ".join(f"{_type(value)}={printed(value, False)}" for value in given)
    return text + rest + (f"%!(EXTRA {extra})" if extra else "")


def _verb(verb: str, flags: str, value: Any) -> str:
    if verb in "vs":
        shown = printed(value, top=False)
        if verb == "s" and isinstance(value, (int, float)):
            return f"%!s({_type(value)}={shown})"
        return f"%{flags}s" % shown
    if verb == "q":
        return f"%{flags}s" % jsontext.dump(printed(value, top=False))
    if verb == "t":
        return f"%{flags}s" % printed(value, top=False)
    if verb == "T":
        return f"%{flags}s" % _type(value)
    try:
        if verb in "xX" and isinstance(value, str):
            return f"%{flags}s" % value.encode().hex()
        return str(f"%{flags}{verb}" % value)
    except (TypeError, ValueError):
        return f"%!{verb}({_type(value)}={printed(value, top=False)})"


def _join(values: Any, separator: str) -> str:
    if isinstance(values, (list, tuple)):
        return separator.join(printed(value, top=False) for value in values)
    return "" if not values else printed(values)


def _title(text: str) -> str:
    """Begin every word with a capital, as strings.Title does: it ends at a sign or a blank."""
    shown, begins = "", True
    for char in text:
        shown += char.upper() if begins else char
        begins = char.isspace() if ord(char) > 127 else not (char.isalnum() or char == "_")
    return shown


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _truncate(text: str, length: int) -> str:
    return text if len(text) < length else text[:length]


# `and` and `or` are not here: they leave arguments unevaluated.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": _equal, "ge": _compared("ge", lambda a, b: bool(a >= b)),
    "gt": _compared("gt", lambda a, b: bool(a > b)), "index": _index, "join": _join,
    "json": to_json, "le": _compared("le", lambda a, b: bool(a <= b)), "len": _length,
    "lower": str.lower, "lt": _compared("lt", lambda a, b: bool(a < b)),
    "ne": lambda a, b: not _equal(a, b), "not": lambda value: not is_true(value), "pad": _pad,
    "print": _printed_all, "printf": _printf,
    "println": lambda *values: " ".join(printed(value, top=False) for value in values) + "\n",
    "slice": _slice, "split": _split, "title": _title,
    "truncate": _truncate, "upper": str.upper,
}  # fmt: skip
