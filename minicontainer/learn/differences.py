"""Two processes side by side, as the kernel shows them: /proc and the control files of cgroups.

Each table of `TABLES` looks at one process and gives names with values. Nothing here asks the
engine: what is shown is what the kernel made of a container, and it can be compared with a process
of the host.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap

from minicontainer.cgroups import hierarchies
from minicontainer.engine import measures
from minicontainer.errors import NotFound
from minicontainer.kernel import capabilities
from minicontainer.kernel.procfs import lines_of, read_of, status_of
from minicontainer.learn import attributes
from minicontainer.learn.calls import short_ids
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Values = dict[str, str]
    Tables = dict[str, Values]

_SETS = {"CapEff": "effective", "CapPrm": "permitted", "CapInh": "inheritable",
         "CapBnd": "bounding", "CapAmb": "ambient"}  # fmt: skip
_JOINT = re.compile(r"(?<=.[,/])(?=[^,/])")  # where a long value may be broken
_BREAK = "\x1f "  # before a space: a line may end here, and the value goes on without a space
_SECCOMP = {"0": "off", "1": "strict", "2": "filter"}
# The control files that hold limits: a name of v2 and of v1, where it differs.
_LIMITS = (
    "memory.max", "memory.limit_in_bytes", "memory.low", "memory.soft_limit_in_bytes",
    "memory.swap.max", "memory.memsw.limit_in_bytes", "memory.oom.group", "memory.swappiness",
    "cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.weight", "cpu.shares", "cpu.idle",
    "cpuset.cpus", "cpuset.mems", "pids.max", "io.max", "io.weight", "blkio.weight",
    "devices.list", "hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes", "rdma.max",
)  # fmt: skip


class Difference(Record):
    """One thing that two processes have, or one of them has.

    Args:
        table: namespaces, mounts, ….
        name: within the table.
        left, right: its value for each process; "" where it has none.
    """

    table: str
    name: str
    left: str
    right: str


def compare(left: int, right: int) -> tuple[Difference, ...]:
    """Look at two processes, and give everything that either has, the same or not.

    Args:
        left, right: their process IDs.
    Raises:
        NotFound: a process has ended.
        PermissionError: this user may not look at it.
    """
    return between(look_at(left), look_at(right))


def between(ones: Tables, others: Tables) -> tuple[Difference, ...]:
    """Lay the tables of two processes side by side: everything that either has, the same or not."""
    return tuple(
        Difference(table=table, name=name, left=mine.get(name, ""), right=yours.get(name, ""))
        for table, mine, yours in ((table, ones[table], others[table]) for table in ones)
        for name in dict.fromkeys((*mine, *yours))
    )


def look_at(pid: int, tables: dict[str, Callable[[int], Values]] | None = None) -> Tables:
    """Look at a process.

    Args:
        tables: those that are made; TABLES if none are named.
    Raises:
        NotFound: the process has ended.
        PermissionError: this user may not look at it.
    """
    try:
        return {table: look(pid) for table, look in (tables or TABLES).items()}
    except (FileNotFoundError, ProcessLookupError):
        raise NotFound(f"process {pid} has ended: nothing is left to be compared") from None


def portable(tables: Tables, names: dict[str, str]) -> Tables:
    """Replace what two containers can't have in common, so that what they could have remains.

    A namespace is the host's or the container's own. A number in the host's PID namespace goes.

    Args:
        names: texts that are a container's own, and what stands for each: its ID, directories.
    """
    hosts = {
        os.readlink(f"/proc/self/ns/{link}").partition("[")[2].rstrip("]")
        for link in tables["namespaces"]
    }
    found = {
        table: {_replaced(name, names): _replaced(value, names) for name, value in values.items()}
        for table, values in tables.items()
    }
    found["namespaces"] = {
        link: "the host's" if number in hosts else "own"
        for link, number in tables["namespaces"].items()
    }
    if found["namespaces"].get("pid") == "the host's":
        for name in ("process IDs", "session", "process group"):
            found["process"].pop(name, None)
    return found


def _replaced(text: str, names: dict[str, str]) -> str:
    for name, word in names.items():
        text = text.replace(name, word)
    return text


def _namespaces(pid: int) -> Values:
    """Give the number of each namespace: two processes in one namespace have the same."""
    links = sorted(os.listdir(f"/proc/{pid}/ns"))
    own = (link for link in links if not link.endswith("_for_children"))
    return {
        link: os.readlink(f"/proc/{pid}/ns/{link}").partition("[")[2].rstrip("]") for link in own
    }


def _mounts(pid: int) -> Values:
    """Give what is mounted where, uppermost: type, source, options of the mount."""
    found = {}
    for line in lines_of(pid, "mountinfo"):
        before, _, after = line.partition(" - ")
        root, place, options = before.split(" ")[3:6]
        kind, source, _ = after.split(" ", 2)
        below = f" of {hierarchies.unescaped(root)}" if root != "/" else ""
        found[hierarchies.unescaped(place)] = (
            f"{kind} {hierarchies.unescaped(source)}{below} ({options})"
        )
    return dict(sorted(found.items()))


def _limits(pid: int) -> Values:
    """Give the process's cgroups, and the limits in their control files."""
    groups = (line.split(":", 2) for line in lines_of(pid, "cgroup"))
    return {
        **{f"cgroup {names or 'unified'}": group for _, names, group in groups},
        **{
            name: "; ".join(sorted(text.split("; "))) if name == "devices.list" else text
            for name, text in measures.limits_of(pid, _LIMITS).items()
        },
    }


def _capabilities(pid: int) -> Values:
    """Give each capability with the sets that have it."""
    status = status_of(pid)
    found: dict[str, list[str]] = {}
    for field, kind in _SETS.items():
        for name in capabilities.names_in(int(status[field], 16)):
            found.setdefault(name, []).append(kind)
    order = [name for name in capabilities.NAMES if name in found]
    return {name: ", ".join(found[name]) for name in order}


def _seccomp(pid: int) -> Values:
    status = status_of(pid)
    mode = status.get("Seccomp", "0")
    return {
        "system call filter": _SECCOMP.get(mode, mode),
        "number of filters": status.get("Seccomp_filters", ""),
        "no_new_privs": {"0": "off", "1": "on"}.get(status.get("NoNewPrivs", "0"), ""),
    }


def _ids(pid: int) -> Values:
    """Give users and groups, and how a user namespace maps them."""
    status = status_of(pid)
    maps = {
        name: "; ".join(" ".join(line.split()) for line in lines_of(pid, name))
        for name in ("uid_map", "gid_map")
    }
    ids = {
        name: " ".join(status[field].split())
        for name, field in (("users", "Uid"), ("groups", "Gid"), ("more groups", "Groups"))
    }
    return ids | maps


def _links(pid: int) -> Values:
    """Give the network links and, of each, where its routes lead."""
    names = [line.partition(":")[0].strip() for line in lines_of(pid, "net/dev")[2:]]
    routes: dict[str, list[str]] = {name: [] for name in names}
    for line in lines_of(pid, "net/route")[1:]:
        name, destination, gateway, _, _, _, _, mask, *_ = line.split()
        bits = int(mask, 16).bit_count()
        where = "default" if not bits else f"{_address(destination)}/{bits}"
        via = f" via {_address(gateway)}" if int(gateway, 16) else ""
        routes.setdefault(name, []).append(f"{where}{via}")
    return {name: f"routes: {', '.join(found) or 'none'}" for name, found in routes.items()}


def _address(text: str) -> str:
    """Read an address as /proc/net/route has it: hexadecimal, in the processor's byte order."""
    return ".".join(map(str, int(text, 16).to_bytes(4, sys.byteorder)))


def _environment(pid: int) -> Values:
    pairs = (item.partition("=") for item in read_of(pid, "environ").split("\0") if item)
    return dict(sorted((name, value) for name, _, value in pairs))


TABLES: dict[str, Callable[[int], Values]] = {
    "namespaces": _namespaces,
    "mounts": _mounts,
    "limits": _limits,
    "capabilities": _capabilities,
    "seccomp": _seccomp,
    "ids": _ids,
    "links": _links,
    "environment": _environment,
    "resource limits": attributes.resource_limits,
    "process": attributes.process,
    "devices": attributes.devices,
    "kernel parameters": attributes.parameters,
}


def lines(
    found: tuple[Difference, ...],
    names: tuple[str, str],
    width: int,
    everything: bool = False,
    notes: dict[Difference, str] | None = None,
) -> Iterator[str]:
    """Write what was found, side by side.

    Args:
        names: of the two processes, for the heading.
        width: columns of a line; longer values go on below.
        everything: show also what is the same.
        notes: what is written below a difference, or below several that follow each other.
    """
    known = notes or {}
    name_width = min(max((len(one.name) for one in found), default=0), 28)
    column = max((width - name_width - 4) // 2, 16)
    for table in dict.fromkeys(one.table for one in found):
        mine = [one for one in found if one.table == table]
        shown = [one for one in mine if everything or one.left != one.right]
        same = len(mine) - len(shown)
        yield f"{table.upper()}{f'   ({same} the same)' if same else ''}"
        if shown:
            yield from _row(("", *names), (name_width, column, column))
        for number, one in enumerate(shown):
            yield from _row(
                (one.name, one.left or "-", one.right or "-"), (name_width, column, column)
            )
            note = known.get(one, "")
            if note and not any(known.get(after) == note for after in shown[number + 1 :][:1]):
                yield from textwrap.wrap(f"({note})", width - 8, initial_indent="      ",
                                         subsequent_indent="      ")  # fmt: skip
        yield ""


def _row(texts: tuple[str, ...], widths: tuple[int, ...]) -> Iterator[str]:
    """Write cells beside one another; a long one goes on in the next lines."""
    cells = [_cell(short_ids(text), width) for text, width in zip(texts, widths, strict=True)]
    for i in range(max(map(len, cells))):
        parts = [cell[i] if i < len(cell) else "" for cell in cells]
        line = " ".join(f"{part:<{width}}" for part, width in zip(parts, widths, strict=True))
        yield f"  {line}".rstrip()


def _cell(text: str, width: int) -> list[str]:
    """Break a value into lines; a word that is too long, after its commas and slashes."""
    words = (word if len(word) <= width else _JOINT.sub(_BREAK, word) for word in text.split(" "))
    lines = textwrap.wrap(" ".join(words), width, break_on_hyphens=False)
    return [line.replace(_BREAK, "").removesuffix(_BREAK[0]) for line in lines] or [""]
