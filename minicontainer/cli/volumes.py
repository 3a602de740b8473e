"""Commands about volumes."""

from __future__ import annotations

import sys

from minicontainer.cli import filters, units
from minicontainer.cli.client import quoted
from minicontainer.cli.exits import Exit
from minicontainer.cli.flags import FILTER, FORMAT, Asked, Flag, command, toggle
from minicontainer.cli.output import for_each, show_list, write_lines
from minicontainer.cli.run_values import key_and_value, label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEADERS = {
    "Name": "VOLUME NAME", "Driver": "DRIVER", "Scope": "SCOPE", "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS", "Links": "LINKS", "Size": "SIZE", "Availability": "AVAILABILITY",
    "Group": "GROUP", "Status": "STATUS",
}  # fmt: skip
LABEL = Flag(name="label", read=label, many=True, metavar="list",
             help="set a label: KEY=VALUE")  # fmt: skip


@command(
    "",
    FILTER,
    FORMAT,
    toggle("quiet", "q", "show only volume names"),
    most=0,
)
def volume_ls(asked: Asked) -> int:
    """List volumes."""
    found = asked.session.client.get("/volumes", {"filters": filters.as_json(asked.filter)})
    volumes = sorted(found.get("Volumes") or (), key=lambda volume: natural(volume["Name"]))
    if asked.quiet and asked.format in ("", "table"):
        write_lines(volume["Name"] for volume in volumes)
        return 0
    entries = [fields_of(volume) for volume in volumes]
    show_list(entries, _HEADERS, ("Driver", "Name"), asked.format, "volume")
    return 0


def natural(text: str) -> list[tuple[int, int, str]]:
    """Give a key that sorts numbers in a text as numbers: v9 before v10."""
    parts: list[tuple[int, int, str]] = []
    while text:
        rest = text.lstrip("0123456789")
        if digits := text[: len(text) - len(rest)]:
            parts.append((0, int(digits), digits))
            text = rest
            continue
        end = next((i for i, char in enumerate(text) if char.isdecimal()), len(text))
        parts.append((1, 0, text[:end]))
        text = text[end:]
    return parts


def fields_of(volume: dict[str, Any]) -> dict[str, Any]:
    """Give what a list shows of a volume."""
    labels = volume.get("Labels") or {}
    usage = volume.get("UsageData")
    return {
        "Name": volume["Name"],
        "Driver": volume["Driver"],
        "Scope": volume["Scope"],
        "Mountpoint": volume["Mountpoint"],
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "Label": lambda key: labels.get(key, ""),
        "Links": str(usage["RefCount"]) if usage else "N/A",
        "Size": units.size(usage["Size"]) if usage else "N/A",
        "Availability": "N/A",
        "Group": "N/A",
        "Status": "N/A",
    }


@command(
    "[VOLUME]",
    Flag(name="driver", letter="d", default="local", help="driver of the volume"),
    LABEL,
    Flag(name="opt", letter="o", read=key_and_value, many=True, metavar="map", key="options",
         help="set an option of the driver: KEY=VALUE"),
    Flag(name="name", help="name of the volume"),
    most=1,
)  # fmt: skip
def volume_create(asked: Asked) -> int:
    """Create a volume."""
    if asked.name and asked.args:
        raise Exit("conflicting options: the volume's name is given twice")
    body = {
        "Name": asked.args[0] if asked.args else asked.name,
        "Driver": asked.driver, "DriverOpts": dict(asked.options), "Labels": dict(asked.label),
    }  # fmt: skip
    made = asked.session.client.post("/volumes/create", body=body)
    sys.stdout.write(f"{made['Name']}\n")
    return 0


@command(
    "VOLUME [VOLUME...]",
    toggle("force", "f", "do not complain of a volume that does not exist"),
    least=1,
)
def volume_rm(asked: Asked) -> int:
    """Remove one or more volumes."""
    query = {"force": asked.force}
    return for_each(
        asked.args, lambda name: asked.session.client.delete(f"/volumes/{quoted(name)}", query)
    )
