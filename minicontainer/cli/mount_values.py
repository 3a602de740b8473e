"""The value of --mount: type=bind,source=PATH,target=PATH,readonly.

See: Docker's `docker container run` reference, "--mount".
"""

from __future__ import annotations

from minicontainer import quantities
from minicontainer.cli.flags import switch
from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OPTIONS = {"bind": "BindOptions", "volume": "VolumeOptions", "tmpfs": "TmpfsOptions",
            "image": "ImageOptions"}  # fmt: skip
_PLAIN = {"source": "Source", "src": "Source", "target": "Target", "dst": "Target",
          "destination": "Target", "type": "Type", "consistency": "Consistency"}  # fmt: skip


def fields(text: str) -> list[str]:
    """Cut a line of comma-separated values; one in double quotes may hold commas."""
    found, rest = [], text
    while True:
        if rest.startswith('"'):
            value, _, rest = rest[1:].partition('"')
            while rest.startswith('"'):  # a doubled quote is one
                more, _, rest = rest[1:].partition('"')
                value += f'"{more}'
            rest = rest.lstrip()
            comma, rest = rest[:1], rest[1:]
        else:
            value, comma, rest = rest.partition(",")
        found.append(value)
        if not comma:
            return found


def mount(text: str) -> dict[str, Any]:
    """Read a mount, as a member of HostConfig.Mounts."""
    found: dict[str, Any] = {"Type": "volume"}
    for field in fields(text):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals and key not in ("readonly", "ro", "volume-nocopy", "bind-nonrecursive"):
            raise InvalidArgument(f"invalid field '{field}' must be a key=value pair")
        if key in ("readonly", "ro"):
            found["ReadOnly"] = _truth(key, value if equals else "true")
        elif key in _PLAIN:
            found[_PLAIN[key]] = value.lower() if key == "type" else value
        else:
            _set_option(found, key, value if equals else "true")
    kind = found["Type"]
    if "Target" not in found:
        raise InvalidArgument("target is required")
    for other, name in _OPTIONS.items():
        if name in found and other != kind:
            raise InvalidArgument(f"cannot mix '{other}-*' options with mount type '{kind}'")
    if found.get("Source", "").startswith(".") and kind == "bind":
        import os

        found["Source"] = os.path.abspath(found["Source"])
    return found


def _truth(key: str, value: str) -> bool:
    try:
        return switch(value)
    except InvalidArgument:
        raise InvalidArgument(f"invalid value for {key}: {value}") from None


def _set_option(found: dict[str, Any], key: str, value: str) -> None:
    """Set what one kind of mount has alone."""
    kind, _, name = key.partition("-")
    options = found.setdefault(_OPTIONS.get(kind, ""), {})
    if key == "bind-propagation":
        options["Propagation"] = value.lower()
    elif key == "bind-nonrecursive":
        options["NonRecursive"] = _truth(key, value)
    elif key == "bind-recursive":
        _set_recursion(options, value)
    elif key == "volume-nocopy":
        options["NoCopy"] = _truth(key, value)
    elif key in ("volume-subpath", "image-subpath"):
        options["Subpath"] = value
    elif key in ("volume-label", "volume-opt"):
        name, _, setting = value.partition("=")
        place = options if key == "volume-label" else options.setdefault("DriverConfig", {})
        place.setdefault("Labels" if key == "volume-label" else "Options", {})[name] = setting
    elif key == "volume-driver":
        options.setdefault("DriverConfig", {})["Name"] = value
    else:
        _set_tmpfs(options, key, value)


def _set_tmpfs(options: dict[str, Any], key: str, value: str) -> None:
    if key == "tmpfs-size":
        options["SizeBytes"] = quantities.size(value)
    elif key == "tmpfs-mode":
        try:
            options["Mode"] = int(value, 8)
        except ValueError:
            raise InvalidArgument(f"invalid value for {key}: {value}") from None
    else:
        raise InvalidArgument(f"unknown option '{key}' in '{key}={value}'")


def _set_recursion(options: dict[str, Any], value: str) -> None:
    rules: dict[str, dict[str, bool]] = {
        "enabled": {}, "disabled": {"NonRecursive": True},
        "writable": {"ReadOnlyNonRecursive": True}, "readonly": {"ReadOnlyForceRecursive": True},
    }  # fmt: skip
    if value not in rules:
        raise InvalidArgument(
            f"invalid value for bind-recursive: {value} "
            '(must be "enabled", "disabled", "writable", or "readonly")'
        )
    options.update(rules[value])
