"""The OCI runtimes that containers can be started with: `--runtime NAME`.

This project's own is part of the engine: no command is called for it. Others are programs with
runc's command line: runc and crun where this host has them, and those that are configured.

See: dockerd(8), "Docker runtime execution options"; `other_runtime` for how they are used.
"""

from __future__ import annotations

from minicontainer.engine import programs
from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minicontainer.runtime.config.spec import Mount

OURS = "minicontainer-oci"
# Docker's name of its shim, which clients may send, means the usual runtime.
_ALSO_OURS = ("", "io.containerd.runc.v2")
_USUAL = ("crun", "runc")


def find(configured: Iterable[str] = ()) -> dict[str, str]:
    """Find the programs of other runtimes, by name.

    Args:
        configured: NAME=PATH, as `--add-runtime` takes them.
    Raises:
        InvalidArgument: one has another form, or takes our name, or is no program.
    """
    found = {}
    for name in _USUAL:
        if path := programs.find(name):
            found[name] = path
    for text in configured:
        name, _, path = text.partition("=")
        if not name or not path.startswith("/") or name in (OURS, *_ALSO_OURS):
            raise InvalidArgument(f"invalid runtime {text!r}: use NAME=/PATH of another runtime")
        if not programs.find(path):
            raise InvalidArgument(f"runtime {name}: {path} is not a program")
        found[name] = path
    return found


def program_of(name: str, others: dict[str, str]) -> str:
    """Give the program of a runtime; "" for our own.

    Raises:
        InvalidArgument: there is no runtime of that name.
    """
    if name in (OURS, *_ALSO_OURS):
        return ""
    if name not in others:
        raise InvalidArgument(f"unknown or invalid runtime name: {name}")
    return others[name]


def known_to_all(mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """Leave out of mounts what only our own runtime knows."""
    return tuple(
        mount.replace(options=tuple(word for word in mount.options if word != "src-nosymlinks"))
        for mount in mounts
    )
