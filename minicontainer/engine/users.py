"""Users and groups by the container's own /etc/passwd and /etc/group.

The files are the image's: read through its root, whatever links they are, and parsed without trust.

See: passwd(5), group(5); CVE-2026-30892 for what a lax parser of numbers leads to.
"""

from __future__ import annotations

import os

from minicontainer.errors import InvalidArgument
from minicontainer.kernel import paths
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_HIGHEST_ID = 2**32 - 2  # the last one means "no change" to setresuid(2)


class Identity(Record):
    """Who the program runs as; where that user is at home, the runtime finds."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


def find(asked: str, rootfs: str) -> Identity:
    """Look up a user as `--user` takes it: name, uid, name:group, uid:gid.

    Args:
        asked: "" for root.
        rootfs: the root file system whose files count.
    Raises:
        InvalidArgument: no such user or group there, or a number out of range.
    """
    name, colon, group = asked.partition(":")
    if (not name and asked) or (colon and not group):
        raise InvalidArgument(f"invalid user {asked!r}: use USER, UID, USER:GROUP or UID:GID")
    users = list(_entries(rootfs, "etc/passwd", 7))
    groups = list(_entries(rootfs, "etc/group", 4))
    entry = _matching(users, name or "0")
    if entry is None and not name.isdecimal() and name:
        raise InvalidArgument(f"unable to find user {name}: no matching entries in passwd file")
    uid = _number(entry[2] if entry else name or "0", "user")
    gid = _number(entry[3], "group") if entry else 0
    login = entry[0] if entry else ""
    if group:
        return Identity(uid=uid, gid=_find_group(group, groups), groups=())
    also = tuple(_number(row[2], "group") for row in groups if login and login in row[3].split(","))
    return Identity(uid=uid, gid=gid, groups=also)


def _find_group(name: str, groups: list[list[str]]) -> int:
    entry = _matching(groups, name)
    if entry is None and not name.isdecimal():
        raise InvalidArgument(f"unable to find group {name}: no matching entries in group file")
    return _number(entry[2] if entry else name, "group")


def _matching(entries: list[list[str]], asked: str) -> list[str] | None:
    for entry in entries:
        if entry[0] == asked or (asked.isdecimal() and entry[2] == asked):
            return entry
    return None


def _number(text: str, what: str) -> int:
    good = text.isascii() and text.isdecimal() and len(text) <= len(str(_HIGHEST_ID))
    if not good or int(text) > _HIGHEST_ID:
        raise InvalidArgument(f"invalid {what} id {text!r}: use 0 to {_HIGHEST_ID}")
    return int(text)


def _entries(rootfs: str, path: str, fields: int) -> Iterator[list[str]]:
    """Yield the well-formed lines of a colon-separated file; an image need not have it."""
    for line in _read(rootfs, path).splitlines():
        entry = line.split(":")
        if len(entry) >= fields and not line.startswith("#"):
            yield entry


def _read(rootfs: str, path: str) -> str:
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return paths.read_in_root(root, path)
    finally:
        os.close(root)
