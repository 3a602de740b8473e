"""Values on the command line of create, run and update, as Docker writes them.

Each function takes the text, gives the member of the request's body, and raises InvalidArgument.
"""

from __future__ import annotations

from minicontainer import quantities
from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_HIGHEST = 2**63 - 1  # of a resource limit


def nano_cpus(text: str) -> int:
    """Read a number of processors, such as 1.5, as billionths."""
    whole, _, part = text.partition(".")
    if not (text.isascii() and (whole + part).isdecimal() and len(part) <= 9):
        raise InvalidArgument(f"failed to parse {text} as a rational number")
    return int(whole or "0") * 10**9 + int((part or "0").ljust(9, "0"))


def nanoseconds(text: str) -> int:
    """Read a length of time, such as 30s or 1m30s, in nanoseconds."""
    return 0 if text.rstrip("smhnu") == "0" else round(quantities.duration_s(text) * 10**9)


def restart_policy(text: str) -> dict[str, Any]:
    """Read NAME[:COUNT]: on-failure:3."""
    name, colon, count = text.partition(":")
    if colon and not name:
        raise InvalidArgument("invalid restart policy format: no policy provided before colon")
    if colon and not count.isdecimal():
        raise InvalidArgument(
            "invalid restart policy format: maximum retry count must be an integer"
        )
    return {"Name": name, "MaximumRetryCount": int(count) if count else 0}


def key_and_value(text: str) -> tuple[str, str]:
    """Read KEY=VALUE, or KEY alone."""
    key, _, value = text.partition("=")
    return key, value


def label(text: str) -> tuple[str, str]:
    """Read a label: KEY=VALUE, or KEY alone.

    Raises:
        InvalidArgument: it has no key.
    """
    key, value = key_and_value(text)
    if not key:
        raise InvalidArgument(f"invalid label '{text}': empty name")
    return key, value


def tmpfs(text: str) -> tuple[str, str]:
    """Read PATH[:OPTIONS]."""
    path, _, options = text.partition(":")
    return path, options


def stream(text: str) -> str:
    """Read the name of a standard stream."""
    name = text.lower()
    if name not in ("stdin", "stdout", "stderr"):
        raise InvalidArgument("valid streams are STDIN, STDOUT and STDERR")
    return name


def extra_host(text: str) -> str:
    """Read HOST:IP, or HOST=IP."""
    host, separator, where = text.partition("=" if "=" in text else ":")
    if not separator or not host:
        raise InvalidArgument(f'bad format for add-host: "{text}"')
    if where != "host-gateway":
        where = where.removeprefix("[").removesuffix("]") if separator == "=" else where
        try:
            address(where)
        except InvalidArgument:
            raise InvalidArgument(f'invalid IP address in add-host: "{where}"') from None
    return f"{host}:{where}"


def address(text: str) -> str:
    """Read an IP address."""
    import _socket

    trimmed = text.strip()
    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, trimmed)
        except (OSError, ValueError):  # ValueError: a character that no C text holds
            continue
        return trimmed
    raise InvalidArgument(f"{text} is not an ip address")


def mode(option: str, *known: str) -> Callable[[str], str]:
    """Make a reader of one of several words, or of whose namespace is joined."""

    def read(text: str) -> str:
        if text not in ("", *known) and not text.startswith(("container:", "ns:")):
            raise InvalidArgument(f"--{option}: invalid mode '{text}': use {' or '.join(known)}")
        return text

    return read


def namespace(name: str, option: str) -> Callable[[str], str]:
    """Make a reader of a namespace's mode: private, host, container:NAME or ns:PATH."""

    def read(text: str) -> str:
        kind, _, other = text.partition(":")
        if text in ("", "private", "host") or (kind in ("container", "ns") and other):
            return text
        raise InvalidArgument(f"--{option}: invalid {name} mode")

    return read


def capability(text: str) -> str:
    """Read the name of a capability, with CAP_ or without."""
    name = text.strip().upper()
    return name if name in ("ALL", "RESET") or name.startswith("CAP_") else f"CAP_{name}"


def link(text: str) -> str:
    """Read NAME[:ALIAS]."""
    name, _, alias = text.partition(":")
    if not name or alias.count(":"):
        raise InvalidArgument(f"bad format for links: {text}")
    return text


def _path_and(text: str, what: str) -> tuple[str, str]:
    path, colon, value = text.rpartition(":")
    if not colon or not path.startswith("/dev/") or not value:
        raise InvalidArgument(f"bad format: {text}: use /dev/PATH:{what}")
    return path, value


def device_weight(text: str) -> dict[str, Any]:
    """Read PATH:WEIGHT."""
    path, value = _path_and(text, "WEIGHT")
    weight = quantities.whole_number(value)
    if weight and not 10 <= weight <= 1000:
        raise InvalidArgument(f"invalid weight for device: {text}: use 10 to 1000, or 0")
    return {"Path": path, "Weight": weight}


def device_bytes(text: str) -> dict[str, Any]:
    """Read PATH:BYTES."""
    path, value = _path_and(text, "BYTES")
    return {"Path": path, "Rate": quantities.size(value)}


def device_operations(text: str) -> dict[str, Any]:
    """Read PATH:NUMBER."""
    path, value = _path_and(text, "NUMBER")
    return {"Path": path, "Rate": quantities.natural_number(value)}


def device_rule(text: str) -> str:
    """Read a rule such as `c 1:3 rwm`."""
    words = text.split(" ")
    numbers = words[1].split(":") if len(words) == 3 else []
    known = len(numbers) == 2 and all(part == "*" or part.isdecimal() for part in numbers)
    if not known or words[0] not in ("a", "b", "c") or not set(words[2]) <= set("rwm"):
        raise InvalidArgument(f"invalid device cgroup format '{text}'")
    return text


def device(text: str) -> dict[str, str]:
    """Read PATH[:PATH][:PERMISSIONS]."""
    path, *rest = text.split(":")
    inside, permissions = path, "rwm"
    if len(rest) == 2:
        inside, permissions = rest
    elif len(rest) == 1 and set(rest[0]) <= set("rwm") and rest[0]:
        permissions = rest[0]
    elif len(rest) == 1:
        inside = rest[0]
    if len(rest) > 2 or not inside:
        raise InvalidArgument(f"invalid device specification: {text}")
    if not set(permissions) <= set("rwm"):
        raise InvalidArgument(f"invalid device specification: {text}: bad permissions")
    return {"PathOnHost": path, "PathInContainer": inside, "CgroupPermissions": permissions}


def ulimit(text: str) -> dict[str, Any]:
    """Read TYPE=SOFT[:HARD]."""
    name, equals, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    how = "use TYPE=SOFT[:HARD], such as nofile=1024:2048"
    if not equals:
        raise InvalidArgument(f"invalid ulimit argument: {text}: {how}")
    try:
        lower = quantities.whole_number(soft)
        upper = quantities.whole_number(hard) if hard else lower
    except InvalidArgument:
        raise InvalidArgument(f"invalid ulimit argument: {text}: {how}") from None
    if not (-1 <= lower <= _HIGHEST and -1 <= upper <= _HIGHEST):
        raise InvalidArgument(f"invalid ulimit argument: {text}: use 0 to {_HIGHEST}, or -1")
    if upper != -1 and (lower > upper or lower == -1):
        raise InvalidArgument(
            f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )
    return {"Name": name, "Soft": lower, "Hard": upper}


def gpus(text: str) -> list[dict[str, Any]]:
    """Read all, a number, or KEY=VALUE pairs, as a request for devices."""
    request: dict[str, Any] = {
        "Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {},
    }  # fmt: skip
    for field in text.split(","):
        key, equals, value = field.partition("=")
        if not equals:
            key, value = "count", field
        if key == "count":
            request["Count"] = -1 if value == "all" else quantities.whole_number(value)
        elif key == "device":
            request["DeviceIDs"] = value.split(",")
        elif key == "driver":
            request["Driver"] = value
        elif key == "capabilities":
            request["Capabilities"] = [[*value.split(","), "gpu"]]
        else:
            raise InvalidArgument(f"unexpected key '{key}' in '{field}'")
    return [request]
