"""Commands that show containers: ps, port, top."""

from __future__ import annotations

import sys

from minicontainer.cli import filters, units
from minicontainer.cli.exits import Exit
from minicontainer.cli.flags import FILTER, FORMAT, NO_TRUNC, Asked, Flag, command, number, toggle
from minicontainer.cli.lifecycle import path_of
from minicontainer.cli.output import aligned, show_list, write_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEADERS = {
    "ID": "CONTAINER ID", "Names": "NAMES", "Image": "IMAGE", "Command": "COMMAND",
    "CreatedAt": "CREATED AT", "RunningFor": "CREATED", "Ports": "PORTS", "State": "STATE",
    "Status": "STATUS", "Size": "SIZE", "Labels": "LABELS", "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS", "Platform": "PLATFORM",
}  # fmt: skip
_COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


@command(
    "",
    toggle("all", "a", "show all containers, and not only the running ones"),
    FILTER,
    FORMAT,
    Flag(name="last", letter="n", read=number, metavar="int", default=-1,
         help="show the N containers that were created last, in any state"),
    toggle("latest", "l", "show the container that was created last, in any state"),
    NO_TRUNC,
    toggle("quiet", "q", "show only container IDs"),
    toggle("size", "s", "show what the containers take on disk"),
    most=0,
)  # fmt: skip
def ps(asked: Asked) -> int:
    """List containers."""
    limit = 1 if asked.latest and asked.last == -1 else asked.last
    shape = asked.format or ("" if asked.quiet else asked.session.config.get("psFormat", ""))
    with_size = asked.size or ".Size" in shape or "json ." in shape
    query = {
        "all": asked.all, "limit": limit if limit > 0 else None, "size": with_size,
        "filters": filters.as_json(asked.filter),
    }  # fmt: skip
    found = asked.session.client.get("/containers/json", query)
    entries = [fields_of(entry, asked.no_trunc) for entry in found]
    if asked.quiet and shape in ("", "table"):
        write_lines(entry["ID"] for entry in entries)
        return 0
    columns = (*_COLUMNS, "Size") if asked.size else _COLUMNS
    show_list(entries, _HEADERS, columns, shape, "Container")
    return 0


def fields_of(entry: dict[str, Any], whole: bool) -> dict[str, Any]:
    """Give what a list shows of a container.

    Args:
        entry: as the engine lists it.
        whole: nothing is cut short.
    """
    labels = entry.get("Labels") or {}
    mounts = [mount.get("Name") or mount.get("Source", "") for mount in entry.get("Mounts") or ()]
    networks = (entry.get("NetworkSettings") or {}).get("Networks") or {}
    created = entry["Created"]
    program = entry["Command"]
    return {
        "ID": entry["Id"] if whole else entry["Id"][:12],
        "Names": _names(entry.get("Names") or (), whole),
        "Image": entry["Image"] if whole else _image(entry),
        "Command": lambda: go_quoted(program if whole else units.shortened(program, 20)),
        "CreatedAt": lambda: units.local_time(created),
        "RunningFor": lambda: units.ago(created),
        "Ports": lambda: ports(entry.get("Ports") or ()),
        "State": entry.get("State", ""),
        "Status": entry.get("Status", ""),
        "Size": lambda: _size(entry),
        "Labels": lambda: ",".join(f"{key}={labels[key]}" for key in sorted(labels)),
        "Mounts": lambda: ",".join(m if whole else units.shortened(m, 15) for m in mounts),
        "LocalVolumes": lambda: str(_local_volumes(entry)),
        "Networks": lambda: ",".join(sorted(networks)),
        "Platform": lambda: _platform(entry.get("ImageManifestDescriptor") or {}),
        "Label": lambda key: labels.get(key, ""),
    }  # fmt: skip


def _names(names: list[str] | tuple[str, ...], whole: bool) -> str:
    """Give the names; those with a further slash are links from other containers."""
    bare = [name.removeprefix("/") for name in names]
    return ",".join(name for name in bare if whole or "/" not in name)


def _image(entry: dict[str, Any]) -> str:
    image: str = entry["Image"]
    if not image:
        return "<no image>"
    identity = units.short_id(entry.get("ImageID", ""))
    if identity and units.short_id(image) == identity:
        return identity
    return image.partition("@")[0]


def _local_volumes(entry: dict[str, Any]) -> int:
    return sum(mount.get("Driver") == "local" for mount in entry.get("Mounts") or ())


def _size(entry: dict[str, Any]) -> str:
    written = units.size(entry.get("SizeRw") or 0, 3)
    total = entry.get("SizeRootFs") or 0
    return f"{written} (virtual {units.size(total, 3)})" if total > 0 else written


def _platform(descriptor: dict[str, Any]) -> str | None:
    platform = descriptor.get("platform")
    if not platform:
        return None
    parts = (platform.get("os"), platform.get("architecture"), platform.get("variant"))
    return "/".join(part for part in parts if part)


def go_quoted(text: str) -> str:
    """Write a text in double quotes, as Go's strconv.Quote does."""
    special = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a",
               "\b": "\\b", "\f": "\\f", "\v": "\\v"}  # fmt: skip
    shown = []
    for char in text:
        if char in special:
            shown.append(special[char])
        elif char.isprintable():
            shown.append(char)
        else:
            code = ord(char)
            shown.append(
                f"\\x{code:02x}"
                if code < 0x80
                else f"\\u{code:04x}"
                if code < 0x10000
                else f"\\U{code:08x}"
            )
    return f'"{"".join(shown)}"'


def _host_port(host: str, port: object) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def ports(entries: list[dict[str, Any]] | tuple[dict[str, Any], ...]) -> str:
    """Write a container's ports in one line; neighbours make a range: 0.0.0.0:80-81->80-81/tcp."""
    open_ranges: dict[tuple[str, str], list[int]] = {}
    closed: list[str] = []
    moved: list[str] = []

    def write(key: tuple[str, str], first: int, last: int) -> str:
        host, kind = key
        span = str(first) if first == last else f"{first}-{last}"
        return f"{_host_port(host, span)}->{span}/{kind}" if host else f"{span}/{kind}"

    def order(port: dict[str, Any]) -> tuple[Any, ...]:
        return (port["PrivatePort"], port.get("IP", ""), port.get("PublicPort", 0), port["Type"])

    for port in sorted(entries, key=order):
        private, host, kind = port["PrivatePort"], port.get("IP", ""), port["Type"]
        public = port.get("PublicPort", 0)
        if host and public != private:
            moved.append(f"{_host_port(host, public)}->{private}/{kind}")
            continue
        span = open_ranges.setdefault((host, kind), [private, private])
        if private == span[1] + 1:
            span[1] = private
        elif private != span[1]:
            closed.append(write((host, kind), *span))
            open_ranges[host, kind] = [private, private]
    closed += [write(key, *span) for key, span in open_ranges.items()]
    return ", ".join(closed + moved)


@command("CONTAINER [PRIVATE_PORT[/PROTO]]", least=1, most=2)
def port(asked: Asked) -> int:
    """List port mappings or a specific mapping for the container."""
    name, *wanted = asked.args
    settings = asked.session.client.get(path_of(name, "json")).get("NetworkSettings") or {}
    published: dict[str, Any] = settings.get("Ports") or {}
    lines = []
    if wanted:
        number_text, _, protocol = wanted[0].partition("/")
        key = f"{number_text}/{protocol or 'tcp'}"
        lines = [_host_port(b["HostIp"], b["HostPort"]) for b in published.get(key) or ()]
        if not lines:
            raise Exit(f"Error: No public port '{wanted[0]}' published for {name}")
    else:
        for key in sorted(published, key=lambda key: (int(key.partition("/")[0]), key)):
            lines += [
                f"{key} -> {_host_port(b['HostIp'], b['HostPort'])}" for b in published[key] or ()
            ]
    write_lines(lines)
    return 0


@command("CONTAINER [ps OPTIONS]", least=1, options_first=True)
def top(asked: Asked) -> int:
    """Display the running processes of a container."""
    name, *options = asked.args
    found = asked.session.client.get(path_of(name, "top"), {"ps_args": " ".join(options)})
    sys.stdout.write(aligned([found["Titles"], *(found.get("Processes") or ())], least=20))
    return 0
