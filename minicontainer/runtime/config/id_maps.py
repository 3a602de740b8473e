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
    """Add the maps that are missing from a specification; give it back as it is if none are."""
    linux = document.get("linux")
    spaces = linux.get("namespaces") if isinstance(linux, dict) else None
    if not isinstance(linux, dict) or not isinstance(spaces, list):
        return document  # the check of the specification names what is wrong
    wanted = [one for one in spaces if isinstance(one, dict) and one.get("type") == "user"]
    if not wanted or wanted[0].get("path") or linux.get("uidMappings") or linux.get("gidMappings"):
        return document
    maps = {"uidMappings": _own("uid", os.geteuid()), "gidMappings": _own("gid", os.getegid())}
    return {**document, "linux": {**linux, **maps}}


def _own(kind: str, own: int) -> list[Json]:
    """Give the ranges of users or groups that this process may map."""
    if os.geteuid() != 0:
        return [{"containerID": 0, "hostID": own, "size": 1}]
    with open(f"/proc/self/{kind}_map", encoding="utf-8") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    return [{"containerID": inside, "hostID": inside, "size": size} for inside, _, size in ranges]
