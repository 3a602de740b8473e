"""The ids of a user namespace whose specification names none: those that the caller may map.

    root               every id that the caller's own user namespace has, as the same number
    an ordinary user   its own user and group, as root

crun does so too; runc refuses such a specification.

See: user_namespaces(7), "User and group ID mappings".
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]


def completed(document: Json) -> Json:
    """Return a specification with a new user namespace with the two maps that it leaves out."""
    maps = {"uidMappings": _own("uid", os.geteuid()), "gidMappings": _own("gid", os.getegid())}
    return {**document, "linux": {**document["linux"], **maps}}


def _own(kind: str, own: int) -> list[Json]:
    """Give the ranges of users or groups that this process may map."""
    if os.geteuid() != 0:
        return [{"containerID": 0, "hostID": own, "size": 1}]
    with open(f"/proc/self/{kind}_map", encoding="utf-8") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    return [{"containerID": inside, "hostID": inside, "size": size} for inside, _, size in ranges]
