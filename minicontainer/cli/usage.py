"""system df: what images, containers and volumes take on disk."""

from __future__ import annotations

import sys

from minicontainer.cli import containers, images, units, volumes
from minicontainer.cli.flags import FORMAT, Asked, command, toggle
from minicontainer.cli.output import aligned, show_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEADERS = {
    "Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}  # fmt: skip
_RUNNING = ("running", "paused", "restarting")


@command("", FORMAT, toggle("verbose", "v", "show every object"), most=0)
def system_df(asked: Asked) -> int:
    """Show disk usage."""
    found = asked.session.client.get("/system/df")
    if asked.verbose and not asked.format:
        sys.stdout.write(_in_detail(found))
        return 0
    entries = [_images(found), _containers(found), _volumes(found), _cache(found)]
    show_list(entries, _HEADERS, tuple(_HEADERS), asked.format, "diskUsage")
    return 0


def _row(kind: str, total: int, active: int, size: float, free: str) -> dict[str, Any]:
    return {
        "Type": kind, "TotalCount": str(total), "Active": str(active), "Size": units.size(size),
        "Reclaimable": free,
    }  # fmt: skip


def _part(free: float, size: float) -> str:
    """Write what can be freed, and how much of all that is."""
    return f"{units.size(free)} ({int(free * 100 / size)}%)" if size > 0 else units.size(free)


def _images(found: dict[str, Any]) -> dict[str, Any]:
    known = found.get("Images") or ()
    size = found.get("LayersSize") or 0
    used = sum(
        image["Size"] - max(image.get("SharedSize", 0), 0)
        for image in known
        if image.get("Containers", 0) > 0 and image["Size"] != -1
    )
    # What several images share is counted once, and kept as long as one of them is used.
    active = sum(image.get("Containers", 0) > 0 for image in known)
    return _row("Images", len(known), active, size, _part(size - used, size))


def _containers(found: dict[str, Any]) -> dict[str, Any]:
    known = found.get("Containers") or ()
    size = sum(entry.get("SizeRw") or 0 for entry in known)
    running = [entry for entry in known if entry["State"] in _RUNNING]
    free = size - sum(entry.get("SizeRw") or 0 for entry in running)
    return _row("Containers", len(known), len(running), size, _part(free, size))


def _volumes(found: dict[str, Any]) -> dict[str, Any]:
    known = found.get("Volumes") or ()
    data = [volume.get("UsageData") or {"Size": 0, "RefCount": 0} for volume in known]
    size = sum(max(usage["Size"], 0) for usage in data)
    free = sum(max(usage["Size"], 0) for usage in data if usage["RefCount"] == 0)
    active = sum(usage["RefCount"] > 0 for usage in data)
    return _row("Local Volumes", len(known), active, size, _part(free, size))


def _cache(found: dict[str, Any]) -> dict[str, Any]:
    known = found.get("BuildCache") or ()
    size = sum(entry["Size"] for entry in known if not entry["Shared"])
    free = sum(entry["Size"] for entry in known if not (entry["Shared"] or entry["InUse"]))
    used = sum(bool(entry["InUse"]) for entry in known)
    return _row("Build Cache", len(known), used, size, units.size(free))


def _in_detail(found: dict[str, Any]) -> str:
    """Write a table for each kind of object."""
    parts: list[tuple[str, list[tuple[str, ...]]]] = [
        ("Images space usage:", _image_rows(found)),
        ("Containers space usage:", _container_rows(found)),
        ("Local Volumes space usage:", _volume_rows(found)),
        (f"Build cache usage: {units.size(_cache_size(found))}", _CACHE_ROWS),
    ]
    return "\n".join(f"{title}\n\n{aligned(rows)}" for title, rows in parts)


_CACHE_ROWS: list[tuple[str, ...]] = [
    ("CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED"),
]  # fmt: skip


def _cache_size(found: dict[str, Any]) -> int:
    return sum(e["Size"] for e in found.get("BuildCache") or () if not e["Shared"])


def _image_rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE",
         "CONTAINERS")
    ]  # fmt: skip
    for image in found.get("Images") or ():
        shared = max(image.get("SharedSize", 0), 0)
        repository, tag = images.split_tag((image.get("RepoTags") or ("<none>:<none>",))[0])
        rows.append((
            repository, tag or "<none>", units.short_id(image["Id"]), units.ago(image["Created"]),
            units.size(image["Size"], 3), units.size(shared), units.size(image["Size"] - shared),
            str(image.get("Containers", 0)),
        ))  # fmt: skip
    return rows


def _container_rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES")
    ]
    for entry in found.get("Containers") or ():
        shown = containers.fields_of(entry, whole=False)
        size = units.size(entry.get("SizeRw") or 0, 3)
        rows.append((
            shown["ID"], shown["Image"], shown["Command"](), shown["LocalVolumes"](), size,
            shown["RunningFor"](), shown["Status"], shown["Names"],
        ))  # fmt: skip
    return rows


def _volume_rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("VOLUME NAME", "LINKS", "SIZE")]
    for volume in found.get("Volumes") or ():
        shown = volumes.fields_of(volume)
        rows.append((shown["Name"], shown["Links"], shown["Size"]))
    return rows
