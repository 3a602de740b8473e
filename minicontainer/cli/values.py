"""Values on the command line, as Docker writes them: devices, mounts, lists of key=value.

Each function is a `type` for argparse: it takes the text, and raises InvalidArgument. Sizes and
numbers are read by `quantities`.
"""

from __future__ import annotations

import os

from minicontainer.engine.config import DeviceMapping, MountRequest, Ulimit
from minicontainer.errors import InvalidArgument
from minicontainer.quantities import size, whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HIGHEST = 2**63 - 1  # of a resource limit


def nano_cpus(text: str) -> int:
    """Read a number of processors, such as 1.5, as billionths."""
    whole, _, part = text.partition(".")
    if not (text.isascii() and (whole + part).isdecimal() and len(part) <= 9):
        raise InvalidArgument(f"invalid number of CPUs: '{text}': use a number such as 0.5")
    return int(whole or "0") * 10**9 + int((part or "0").ljust(9, "0"))


def ulimit(text: str) -> Ulimit:
    """Read TYPE=SOFT[:HARD]."""
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    try:
        found = Ulimit(name=name, soft=whole_number(soft), hard=whole_number(hard or soft))
    except InvalidArgument:
        raise InvalidArgument(
            f"invalid ulimit argument: '{text}': use TYPE=SOFT[:HARD], such as nofile=1024:2048"
        ) from None
    if not (-1 <= found.soft <= _HIGHEST and -1 <= found.hard <= _HIGHEST):
        raise InvalidArgument(f"invalid ulimit argument: '{text}': use 0 to {_HIGHEST}, or -1")
    return found


def device(text: str) -> DeviceMapping:
    """Read HOST-PATH[:CONTAINER-PATH][:PERMISSIONS]."""
    path, *rest = text.split(":")
    inside, permissions = path, "rwm"
    if len(rest) == 2:
        inside, permissions = rest
    elif len(rest) == 1:
        inside, permissions = (rest[0], "rwm") if rest[0].startswith("/") else (path, rest[0])
    if not path.startswith("/") or not inside.startswith("/") or len(rest) > 2:
        raise InvalidArgument(f"invalid device specification: '{text}': use /dev/PATH[:PATH][:rwm]")
    return DeviceMapping(
        path_on_host=path, path_in_container=inside, cgroup_permissions=permissions
    )


_MOUNT_KEYS = {
    "type": "type", "source": "source", "src": "source", "target": "target",
    "destination": "target", "dst": "target", "readonly": "read_only", "ro": "read_only",
    "bind-propagation": "propagation", "tmpfs-size": "size", "tmpfs-mode": "mode",
}  # fmt: skip


_YES_OR_NO = {"": True, "1": True, "true": True, "0": False, "false": False}
# What --mount may say besides, by type.
_MOUNT_FIELDS = {
    "bind": {"type", "target", "read_only", "source", "propagation"},
    "tmpfs": {"type", "target", "read_only", "size", "mode"},
}


def mount(text: str) -> MountRequest:
    """Read --mount's type=bind,source=PATH,target=PATH[,readonly]."""
    try:
        return _mount(text)
    except InvalidArgument as error:
        raise InvalidArgument(f"invalid argument '{text}' for --mount: {error}") from None


def _mount(text: str) -> MountRequest:
    found: dict[str, Any] = {"type": "volume"}
    for pair in text.split(","):
        key, equals, value = pair.partition("=")
        name = _MOUNT_KEYS.get(key.strip().lower())
        if name is None:
            raise InvalidArgument(f"unexpected key '{key}'")
        if name == "read_only" and value.lower() in _YES_OR_NO:
            found[name] = _YES_OR_NO[value.lower()]
        elif name == "read_only":
            raise InvalidArgument(f"invalid value for {key}: '{value}': use true or false")
        elif not equals or not value:
            raise InvalidArgument(f"'{key}' needs a value")
        else:
            found[name] = value
    fields = _MOUNT_FIELDS.get(found["type"])
    if fields is None:
        raise InvalidArgument(f"type must be bind or tmpfs, not {found['type']}")
    if alien := sorted(found.keys() - fields):
        raise InvalidArgument(f"a mount of type {found['type']} has no {alien[0]}")
    if "target" not in found or (found["type"] == "bind" and "source" not in found):
        raise InvalidArgument("target and source are required")
    if "size" in found:
        found["size"] = size(found["size"])
    options = [f"{name}={found.pop(name)}" for name in ("size", "mode") if name in found]
    return MountRequest(**found, mount_words=",".join(options))


def bind(text: str) -> str:
    """Read -v's HOST:CONTAINER, where HOST may be ./x, as in Docker."""
    source, colon, rest = text.partition(":")
    return f"{os.path.abspath(source)}:{rest}" if colon and source[:1] == "." else text


def tmpfs(text: str) -> tuple[str, str]:
    """Read --tmpfs's PATH[:OPTIONS]."""
    path, _, options = text.partition(":")
    return path, options


def environment(text: str, own: dict[str, str]) -> str | None:
    """Read NAME=VALUE, or NAME for the value it has here; None if it has none.

    A bad text is not shown: it may be a secret.
    """
    name, equals, _ = text.partition("=")
    if not name:
        raise InvalidArgument("invalid environment variable: it has no name: use NAME=VALUE")
    if "\0" in text:
        raise InvalidArgument("invalid environment variable: it holds a NUL character")
    if equals:
        return text
    return f"{name}={own[name]}" if name in own else None


def environment_file(path: str, own: dict[str, str]) -> tuple[str, ...]:
    """Read a file with a variable a line; # begins a comment line."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise InvalidArgument(f"can't read env file '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidArgument(f"env file {path}: is not UTF-8 text") from None
    found = []
    for number, line in enumerate(lines, 1):
        text = line.lstrip()
        if not text or text.startswith("#"):
            continue
        name = text.partition("=")[0]
        # The line is not shown: it may be a part of a secret that has several.
        if not name:
            raise InvalidArgument(f"env file {path}, line {number}: no variable name before =")
        if any(space in name for space in " \t\0"):
            raise InvalidArgument(
                f"env file {path}, line {number}: the variable's name contains whitespaces"
            )
        if (variable := environment(text, own)) is not None:
            found.append(variable)
    return tuple(found)
