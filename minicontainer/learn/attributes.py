"""What else a process has, beside what `differences` shows first: limits, files, parameters.

Each function looks at one process and gives names with values, as the tables of `differences` do.
A parameter of a namespace has its value only for who is in that namespace, so a thread enters it.
"""

from __future__ import annotations

import os
import stat
import threading
from functools import partial

from minicontainer.cgroups import hierarchies
from minicontainer.kernel import namespaces
from minicontainer.kernel.files import opened
from minicontainer.kernel.procfs import lines_of, read_of, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Values = dict[str, str]

# Parameters that a runtime or an engine sets, and those that show whose namespace it is.
_PARAMETERS = {
    "uts": ("kernel/hostname", "kernel/domainname"),
    "ipc": ("kernel/msgmax", "kernel/sem", "kernel/shmmax", "kernel/shmall"),
    "network": (
        "net/ipv4/ip_forward", "net/ipv4/ip_unprivileged_port_start",
        "net/ipv4/ping_group_range", "net/ipv4/conf/all/route_localnet",
    ),
}  # fmt: skip
_STATUS = {
    "Umask": "umask", "NSpid": "process IDs", "NSsid": "session", "NSpgid": "process group",
    "SigIgn": "ignored signals", "SigBlk": "blocked signals", "SigCgt": "caught signals",
    "Cpus_allowed_list": "processors", "Mems_allowed_list": "memory nodes", "Threads": "threads",
}  # fmt: skip
# Signals 32 and 33, as bits: glibc uses them for threads, and lets no program decide about them.
_INTERNAL = 0b11 << 31


def resource_limits(pid: int) -> Values:
    """Give the limits of prlimit(2), soft and hard."""
    found = {}
    for line in lines_of(pid, "limits")[1:]:
        name, soft, hard = line[:25].strip(), *line[25:].split()[:2]
        found[name] = f"{soft} {hard}"
    return found


def process(pid: int) -> Values:
    """Give the attributes of the process itself.

    Of its numbers only the innermost counts: the others are the host's, and never the same.
    """
    status = status_of(pid)
    found = {
        name: status[field].split("\t")[-1] for field, name in _STATUS.items() if field in status
    }
    for name in ("ignored signals", "caught signals"):
        found[name] = f"{int(found[name], 16) & ~_INTERNAL:016x}"
    found["directory"] = os.readlink(f"/proc/{pid}/cwd")
    found["program"] = os.readlink(f"/proc/{pid}/exe")
    found["command line"] = read_of(pid, "cmdline").rstrip("\0").replace("\0", " ")
    found["oom_score_adj"] = read_of(pid, "oom_score_adj").strip()
    found["personality"] = read_of(pid, "personality").strip()
    found["descriptors"] = " ".join(sorted(os.listdir(f"/proc/{pid}/fd"), key=int))
    return found


def filesystems(pid: int) -> Values:
    """Give, by mount point, the options of the filesystem itself, and how its mounts propagate.

    Layers of an overlay that the kernel got one by one are listed as `lowerdir+`; here they are not
    told apart from others.
    """
    found = {}
    for line in lines_of(pid, "mountinfo"):
        before, _, after = line.partition(" - ")
        peers = [word.partition(":")[0] for word in before.split(" ")[6:]]
        options = after.split(" ", 2)[2].replace("lowerdir+=", "lowerdir=")
        found[hierarchies.unescaped(before.split(" ")[4])] = " ".join([options, *peers])
    return dict(sorted(found.items()))


def devices(pid: int) -> Values:
    """List /dev: kind, numbers, mode and owner of each file."""
    found = {}
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    with opened(os.open(f"/proc/{pid}/root/dev", flags)) as directory:
        for name in sorted(os.listdir(directory)):
            found[f"/dev/{name}"] = _described(name, directory)
    return found


def _described(name: str, directory: int) -> str:
    seen = os.stat(name, dir_fd=directory, follow_symlinks=False)
    owner = f"{stat.filemode(seen.st_mode)} {seen.st_uid}:{seen.st_gid}"
    if stat.S_ISLNK(seen.st_mode):
        return f"-> {os.readlink(name, dir_fd=directory)}"
    if stat.S_ISCHR(seen.st_mode) or stat.S_ISBLK(seen.st_mode):
        return f"{owner} {os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}"
    return owner


def parameters(pid: int) -> Values:
    """Give kernel parameters of the process's namespaces: UTS, IPC, network."""
    found: Values = {}
    for kind, paths in _PARAMETERS.items():
        found |= _in_namespace(pid, kind, partial(_parameters, paths))
    return found


def _parameters(paths: tuple[str, ...]) -> Values:
    found = {}
    for path in paths:
        if os.path.exists(f"/proc/sys/{path}"):
            with open(f"/proc/sys/{path}", encoding="utf-8") as file:
                found[path] = " ".join(file.read().split())
    return found


def _in_namespace(pid: int, kind: str, look: Callable[[], Values]) -> Values:
    """Look from within a namespace of a process; a thread of its own enters it and ends.

    Raises:
        OSError: as the calls say.
    """
    result: list[Values | OSError] = []
    row = namespaces.BY_TYPE[kind]

    def enter() -> None:
        try:
            path = f"/proc/{pid}/ns/{row.link}"
            with opened(namespaces.open_namespace(path, row)) as fd:
                namespaces.setns(fd, row)
            result.append(look())
        except OSError as error:
            result.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    (found,) = result
    if isinstance(found, OSError):
        raise found
    return found


# For a closer look than `diff` takes: each row would be there twice.
MORE: dict[str, Callable[[int], Values]] = {"filesystems": filesystems}
