"""What an ordinary user needs for containers without root, beside user namespaces.

See: newuidmap(1), subuid(5), pasta(1), slirp4netns(1); systemd.resource-control(5) "Delegate=".
"""

from __future__ import annotations

import os
import pwd
import stat
from contextlib import suppress

from minicontainer.cgroups import hierarchies
from minicontainer.engine import programs
from minicontainer.engine.host_probes import Finding
from minicontainer.errors import Error, KernelError
from minicontainer.kernel import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_RANGE = "100000-165535"  # as adduser(8) gives the first user


def examine(uid: int) -> Iterator[Finding]:
    """Look for everything that the rootless containers of user *uid* need; nothing else does."""
    for program in ("newuidmap", "newgidmap"):
        yield _map_helper(program)
    for path, option in (("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")):
        yield _subordinate_ids(path, option, uid)
    yield _network_helper()
    yield _delegated_cgroup(uid)


def user_name(uid: int) -> str:
    """Name a user; by the number where no name is known."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def _finding(name: str, found: str, fix: str = "") -> Finding:
    return Finding(name=f"rootless: {name}", ok=not fix, needed=False, found=found, fix=fix)


def _map_helper(program: str) -> Finding:
    """Find a program that writes id maps in the user's place, and may."""
    path = programs.find(program)
    if path is None:
        return _finding(program, "not installed", "apt install uidmap")
    if os.stat(path).st_mode & stat.S_ISUID:
        return _finding(program, f"{path}, set-user-ID")
    with suppress(OSError):  # a filesystem without such attributes
        if "security.capability" in os.listxattr(path):
            return _finding(program, f"{path}, by file capabilities")
    return _finding(program, f"{path} has lost its privilege", f"chmod u+s {path}")


def _subordinate_ids(path: str, option: str, uid: int) -> Finding:
    """Look for the ids that a user may map beside the own one; for root: those of anybody."""
    try:
        lines = files.read_file(path).splitlines()
    except KernelError:
        lines = []
    ranges = [fields for line in lines if len(fields := line.strip().split(":")) == 3]
    if uid == 0:
        users = ", ".join(dict.fromkeys(user for user, _, _ in ranges))
        if users:
            return _finding(path, f"ranges of {users}")
        return _finding(path, "nobody has a range", f"usermod {option} {_RANGE} USER")
    name = user_name(uid)
    own = [f"{first}+{size}" for user, first, size in ranges if user in (name, str(uid))]
    if own:
        return _finding(path, f"{name}: {', '.join(own)}")
    return _finding(path, f"no range for {name}", f"usermod {option} {_RANGE} {name} (as root)")


def _network_helper() -> Finding:
    for program in ("pasta", "slirp4netns"):
        path = programs.find(program)
        if path:
            return _finding("network", path)
    return _finding("network", "neither pasta nor slirp4netns is installed", "apt install passt")


def _delegated_cgroup(uid: int) -> Finding:
    """Look for a cgroup that belongs to the user, and which controllers it has."""
    name = "cgroup"
    try:
        found = hierarchies.mounted()
    except Error as error:
        return _finding(name, "no cgroups", str(error).rpartition(": ")[2])
    if found.version != "v2" or found.unified is None:
        fix = "boot with systemd.unified_cgroup_hierarchy=1"
        return _finding(name, "version 1 can't be left to ordinary users", fix)
    top = found.unified.mount_point
    service = f"/user.slice/user-{uid}.slice/user@{uid}.service"  # systemd's, one for each user
    for group in (found.unified.own_below_mount(), service):
        try:
            if os.stat(f"{top}{group}/cgroup.procs").st_uid == uid:
                controllers = files.read_file(f"{top}{group}/cgroup.controllers").strip()
                return _finding(name, f"{group} has {controllers or 'no controllers'}")
        except OSError:  # there is no such group, or it is hidden
            continue
    fix = "systemctl set-property user@UID.service Delegate=yes".replace("UID", str(uid))
    return _finding(name, "none belongs to this user", fix)
