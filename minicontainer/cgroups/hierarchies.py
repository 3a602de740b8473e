"""The cgroup hierarchies that this process sees: v1, v2, or both (hybrid).

Version 1 has a hierarchy, a tree of groups, for each controller or a few; version 2 has one tree
for all. /proc/self/mountinfo shows where they are mounted, and /proc/self/cgroup which of their
groups this process is in. See: cgroups(7); proc_pid_mountinfo(5).
"""

from __future__ import annotations

from minicontainer.errors import Conflict, InvalidArgument, KernelError, Unsupported
from minicontainer.kernel import files
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

USUAL_PLACE = "/sys/fs/cgroup"
# The last texts, and what `parse` found in them.
_PARSED: dict[tuple[str, str], Hierarchies] = {}


class View(Record):
    """One directory of a container's /sys/fs/cgroup.

    Args:
        name: below /sys/fs/cgroup: cpu,cpuacct; "" for /sys/fs/cgroup itself (v2).
        source: the container's group as a directory of the host, for a bind mount.
        filesystem: cgroup or cgroup2, for a mount in a cgroup namespace, whose root it then shows.
        hierarchy: the host's mount of the whole hierarchy (v2).
        links: names beside it that point to it: cpu, cpuacct.
    """

    name: str
    source: str
    filesystem: str
    hierarchy: str = ""
    links: tuple[str, ...] = ()


class Hierarchy(Record):
    """One mounted hierarchy.

    Args:
        controllers: its v1 controllers, or `name=systemd` for a named one without controllers; ()
            for v2, which lists its controllers in cgroup.controllers.
        mount_point: where it is mounted.
        root: the group that the mount point shows; not / if only a part is mounted, as in a
            container without a cgroup namespace.
        own: the group that this process is in, with the same origin as `root`.
    """

    controllers: tuple[str, ...] = ()
    mount_point: str
    root: str = "/"
    own: str = "/"

    def own_below_mount(self) -> str:
        """Return this process's group below the mount point; / if the mount does not show it."""
        if self.root == "/":
            return self.own
        if self.own.startswith(self.root + "/"):
            return self.own[len(self.root) :]
        return "/"


class Hierarchies(Record):
    """All hierarchies that this process sees.

    Args:
        v1: those of version 1.
        unified: that of version 2, if it is mounted.
    """

    v1: tuple[Hierarchy, ...] = ()
    unified: Hierarchy | None = None

    @property
    def version(self) -> Literal["v1", "hybrid", "v2"]:
        """Return the version that has the controllers; a named v1 hierarchy has none."""
        if not any(not name.startswith("name=") for h in self.v1 for name in h.controllers):
            return "v2"
        return "hybrid" if self.unified else "v1"

    def resolve(self, path: str) -> str:
        """Make *path* absolute, below the mount point.

        Args:
            path: absolute, or relative to this process's own group; on v2 to the one above that: a
                group with processes, as ours is, has no limits to give to the groups below it. On
                v1 a process may be in another group of each hierarchy. The group in systemd's
                hierarchy counts, or else in the first, so that a container has one path in all of
                them.
        Raises:
            InvalidArgument: it is empty or the root, or contains `..` or a line break.
        See: runtime-spec config-linux.md "Cgroups Path".
        """
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if not parts or ".." in parts or "\n" in path or "\0" in path:
            raise InvalidArgument(
                f"cgroup path {path!r}: expected names separated by slashes, without .., "
                "like /minicontainer/web"
            )
        if path.startswith("/"):
            return "/" + "/".join(parts)
        own = self._own_hierarchy().own_below_mount()
        if own.endswith(" (deleted)"):
            raise Conflict(f"cgroup {own.removesuffix(' (deleted)')} of this process was removed")
        if self.version == "v2":
            own = own.rpartition("/")[0]
        return "/".join([own.rstrip("/"), *parts])

    def _own_hierarchy(self) -> Hierarchy:
        if self.unified and self.version == "v2":
            return self.unified
        named = [h for h in self.v1 if h.controllers == ("name=systemd",)]
        return (named or self.v1)[0]


def mounted() -> Hierarchies:
    """Find the hierarchies that this process sees.

    Raises:
        Unsupported: there is none; the message has the reason.
    """
    try:
        found = parse(files.read_file("/proc/self/mountinfo"), files.read_file("/proc/self/cgroup"))
    except KernelError as error:
        raise Unsupported(
            f"{error}: cgroups need /proc mounted, and a kernel with CONFIG_CGROUPS"
        ) from None
    if not found.v1 and not found.unified:
        raise Unsupported(
            "no cgroup hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup (as root)"
        )
    return found


def parse(mountinfo: str, own_groups: str) -> Hierarchies:
    """Find the hierarchies in the text of /proc/PID/mountinfo and /proc/PID/cgroup.

    The same texts give the same result, which is kept: a process that starts many containers, or
    its fork, parses them once.
    """
    found = _PARSED.get((mountinfo, own_groups))
    if found is None:
        found = _parsed(mountinfo, own_groups)
        _PARSED.clear()
        _PARSED[mountinfo, own_groups] = found
    return found


def _parsed(mountinfo: str, own_groups: str) -> Hierarchies:
    groups = {}  # this process's group, by controllers joined by commas; "" for v2
    for line in own_groups.splitlines():
        _, controllers, group = line.split(":", 2)
        groups[controllers] = group
    found: dict[str, Hierarchy] = {}  # by mount point
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root, mount_point = map(unescaped, before.split(" ", 5)[3:5])
        # A later mount hides earlier ones at the same place and below.
        if found:
            found = {
                where: seen
                for where, seen in found.items()
                if where != mount_point and not where.startswith(mount_point.rstrip("/") + "/")
            }
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2":
            found[mount_point] = Hierarchy(
                mount_point=mount_point, root=root, own=groups.get("", "/")
            )
        elif kind == "cgroup":
            named = set(options.split(","))
            for controllers, own in groups.items():
                if controllers and named.issuperset(controllers.split(",")):
                    found[mount_point] = Hierarchy(
                        controllers=tuple(controllers.split(",")),
                        mount_point=mount_point, root=root, own=own,
                    )  # fmt: skip
    return _one_mount_each(list(found.values()))


def _one_mount_each(found: list[Hierarchy]) -> Hierarchies:
    """Of several mounts of a hierarchy, keep the one at the usual place, or else the first."""
    chosen: dict[tuple[str, ...], Hierarchy] = {}
    # sort() keeps the order of equal items
    found.sort(key=lambda h: not (h.mount_point + "/").startswith(USUAL_PLACE + "/"))
    for hierarchy in found:
        chosen.setdefault(hierarchy.controllers, hierarchy)
    unified = chosen.pop((), None)
    return Hierarchies(v1=tuple(chosen.values()), unified=unified)


def unescaped(text: str) -> str:
    r"""Undo the octal escapes of mountinfo: \040 is a space."""
    first, *rest = text.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)
