"""Values on the command line, as Docker writes them: sizes, limits, lists of key=value.

Each function is a `type` for argparse: it takes the text, and raises InvalidArgument.
"""

from __future__ import annotations

from minicontainer.engine.config import DeviceMapping, MountRequest, Ulimit
from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_HIGHEST = 2**63 - 1  # the kernel's counters


def size(text: str) -> int:
    """Read a number of bytes: 64m, 1.5g, 4096; a b or ib may follow the unit."""
    word = text.strip().lower()
    for ending in ("ib", "b"):
        if len(word) > 1 and word.endswith(ending) and word[-len(ending) - 1] in _UNITS:
            word = word.removesuffix(ending)
            break
    unit: int = _UNITS.get(word[-1:], 0)
    number = word[:-1] if unit else word
    whole, _, part = number.partition(".")
    if not (whole.isascii() and whole.isdecimal() and (part or "0").isdecimal()):
        raise InvalidArgument(f"invalid size: '{text}': use a number with b, k, m, g or t: 64m")
    scale = 10 ** len(part)  # whole numbers all the way: a float would round
    value: int = (int(whole) * scale + int(part or "0")) * (unit or 1) // scale
    if value > _HIGHEST:
        raise InvalidArgument(f"invalid size: '{text}': more than the kernel can count")
    return value


def size_or_unlimited(text: str) -> int:
    """Read a size, or -1 for no limit."""
    return -1 if text == "-1" else size(text)


def whole_number(text: str) -> int:
    """Read a number, which may be negative."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()):
        raise InvalidArgument(f"invalid number: '{text}'")
    return int(text)


def nano_cpus(text: str) -> int:
    """Read a number of processors, such as 1.5, as billionths."""
    whole, _, part = text.partition(".")
    if not (text.isascii() and (whole + part).isdecimal() and len(part) <= 9):
        raise InvalidArgument(f"invalid number of CPUs: '{text}': use a number such as 0.5")
    return int(whole or "0") * 10**9 + int((part or "0").ljust(9, "0"))


def ulimit(text: str) -> Ulimit:
    """Read TYPE=SOFT[:HARD]."""
    name, equals, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    try:
        return Ulimit(name=name, soft=int(soft), hard=int(hard or soft))
    except ValueError:
        raise InvalidArgument(
            f"invalid ulimit argument: '{text}': use TYPE=SOFT[:HARD], such as nofile=1024:2048"
        ) from None


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


def mount(text: str) -> MountRequest:
    """Read --mount's type=bind,source=PATH,target=PATH[,readonly]."""
    found: dict[str, Any] = {"type": "volume"}
    tmpfs = []
    for pair in text.split(","):
        key, equals, value = pair.partition("=")
        name = _MOUNT_KEYS.get(key.strip().lower())
        if name is None:
            raise InvalidArgument(f"invalid argument '{text}' for --mount: unexpected key '{key}'")
        if name == "read_only":
            found[name] = value.lower() in ("", "1", "true")
        elif not equals or not value:
            raise InvalidArgument(f"invalid argument '{text}' for --mount: '{key}' needs a value")
        elif name in ("size", "mode"):
            tmpfs.append(f"size={size(value)}" if name == "size" else f"mode={value}")
        else:
            found[name] = value
    if found["type"] not in ("bind", "tmpfs"):
        raise InvalidArgument(
            f"invalid argument '{text}' for --mount: type must be bind or tmpfs, not {found['type']}"
        )
    if "target" not in found or (found["type"] == "bind" and "source" not in found):
        raise InvalidArgument(
            f"invalid argument '{text}' for --mount: target and source are required"
        )
    if found["type"] == "bind" and not str(found["source"]).startswith("/"):
        raise InvalidArgument(f"invalid argument '{text}' for --mount: source must be absolute")
    return MountRequest(**found, tmpfs_options=",".join(tmpfs))


def tmpfs(text: str) -> tuple[str, str]:
    """Read --tmpfs's PATH[:OPTIONS]."""
    path, _, options = text.partition(":")
    return path, options


def environment(text: str, own: dict[str, str]) -> str | None:
    """Read NAME=VALUE, or NAME for the value it has here; None if it has none."""
    name, equals, _ = text.partition("=")
    if not name or "\0" in text:
        raise InvalidArgument(f"invalid environment variable: '{text}'")
    if equals:
        return text
    return f"{name}={own[name]}" if name in own else None


def environment_file(path: str, own: dict[str, str]) -> tuple[str, ...]:
    """Read a file with a variable a line; # begins a comment line."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"can't read env file {path}: {error}") from None
    found = []
    for line in lines:
        text = line.lstrip()
        if not text or text.startswith("#"):
            continue
        name = text.partition("=")[0]
        if any(space in name for space in " \t"):
            raise InvalidArgument(f"env file {path}: variable '{name}' contains whitespaces")
        if (variable := environment(text, own)) is not None:
            found.append(variable)
    return tuple(found)
