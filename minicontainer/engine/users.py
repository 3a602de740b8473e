"""Users and groups by the container's own /etc/passwd and /etc/group.

The files belong to the image: they are read through the image's root, whatever links they are, and
parsed without trust. Text that is a number is an id and never a name, or an image with a user
called `1000` could turn `--user 1000` into root. A line that is not well formed is passed over; it
stops the start only if it is the very line that the caller names.

See: passwd(5), group(5); CVE-2026-30892 for what a lax parser of numbers leads to.
"""

from __future__ import annotations

import os

from minicontainer.errors import InvalidArgument
from minicontainer.kernel import paths
from minicontainer.record import Record
from minicontainer.runtime import accounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Identity(Record):
    """The ids that the program runs with. The runtime looks up the user's home directory."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


class _Line(Record):
    """A line of passwd(5) or group(5).

    Args:
        place: the file and the number of the line, for messages.
        parts: the text between the colons.
    """

    place: str
    parts: tuple[str, ...]


def find(user: str, rootfs: str | tuple[str, ...], group_add: tuple[str, ...] = ()) -> Identity:
    """Look up a user as `--user` takes it: name, uid, name:group, uid:gid.

    Args:
        user: "" for root.
        rootfs: the root file system whose passwd and group files count; or its layers, uppermost
            first: the first layer that has a file counts.
        group_add: further groups by name or gid, as `--group-add` takes them.
    Raises:
        InvalidArgument: the user or group does not exist there, or a number is out of range.
    """
    name, colon, group = user.partition(":")
    if (not name and user) or (colon and not group):
        raise InvalidArgument(f"invalid user {user!r}: use USER, UID, USER:GROUP or UID:GID")
    roots = (rootfs,) if isinstance(rootfs, str) else rootfs
    groups = list(_lines(roots, "etc/group", 4))
    uid, line = _find(name or "0", list(_lines(roots, "etc/passwd", 7)), "user", "passwd")
    added = [_find(text, groups, "group", "group")[0] for text in group_add]
    if group:
        gid, _ = _find(group, groups, "group", "group")
        return Identity(uid=uid, gid=gid, groups=_once(added))
    gid = _id(line.parts[3], "group", line.place) if line else 0
    login = line.parts[0] if line else ""
    return Identity(uid=uid, gid=gid, groups=_once([*_memberships(login, groups), *added]))


def _once(numbers: list[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(numbers))


def _find(text: str, lines: list[_Line], what: str, file: str) -> tuple[int, _Line | None]:
    """Find the id that *text* means, and its line; a number needs no line.

    Args:
        what: user or group.
        file: passwd or group.
    """
    if text.isdecimal():
        number = _id(text, what)
        return number, next(
            (line for line in lines if accounts.to_id(line.parts[2]) == number), None
        )
    line = next((line for line in lines if line.parts[0] == text), None)
    if line is None:
        raise InvalidArgument(f"unable to find {what} {text}: no matching entries in {file} file")
    return _id(line.parts[2], what, line.place), line


def _memberships(login: str, groups: list[_Line]) -> Iterator[int]:
    """Yield the groups whose lines list a user."""
    for line in groups:
        gid = accounts.to_id(line.parts[2])
        if login and gid is not None and login in line.parts[3].split(","):
            yield gid


def _id(text: str, what: str, place: str = "") -> int:
    number = accounts.to_id(text)
    if number is None:
        where = f"{place}: " if place else ""
        raise InvalidArgument(f"{where}invalid {what} id {text!r}: use 0 to {accounts.HIGHEST_ID}")
    return number


def _lines(roots: tuple[str, ...], path: str, fields: int) -> Iterator[_Line]:
    """Yield the lines of a colon-separated file that have enough fields.

    An image need not have the file.
    """
    for number, found in accounts.lines(_read(roots, path), fields):
        yield _Line(place=f"/{path} of the container, line {number}", parts=found)


def _read(roots: tuple[str, ...], path: str) -> str:
    for directory in roots:
        root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if text := paths.read_in_root(root, path):
                return text
        finally:
            os.close(root)
    return ""
