"""Kernel parameters that each namespace has for itself: their names, and the kind of namespace.

Most of /proc/sys is the whole host's. These few have a value in each namespace of a kind; a process
reads and writes the value of its own namespace.

See: sysctl(8), proc_sys(5), namespaces(7).
"""

from __future__ import annotations

# By their path below /proc/sys, or its beginning.
_FILES = {
    "kernel/msgmax": "ipc",
    "kernel/msgmnb": "ipc",
    "kernel/msgmni": "ipc",
    "kernel/sem": "ipc",
    "kernel/shmall": "ipc",
    "kernel/shmmax": "ipc",
    "kernel/shmmni": "ipc",
    "kernel/shm_rmid_forced": "ipc",
    "kernel/domainname": "uts",
    "kernel/hostname": "uts",
}
_DIRECTORIES = {"fs/mqueue/": "ipc", "net/": "network", "user/": "user"}

_SWAPPED = str.maketrans("./", "/.")


def path_of(name: str) -> str:
    """Turn a parameter's name into its path below /proc/sys; return "" if it is not one.

    Either separator may be used. The first one in the name decides, and the other then stands for
    itself: net.ipv4.conf.eth0/100.forwarding and net/ipv4/conf/eth0.100/forwarding are the same.
    See: sysctl.d(5).
    """
    first = min((place for place in map(name.find, "./") if place >= 0), default=-1)
    path = name.translate(_SWAPPED) if first >= 0 and name[first] == "." else name
    parts = path.split("/")
    return "" if len(parts) < 2 or {"", ".", ".."} & set(parts) else path


def namespace_of(path: str) -> str:
    """Return the kind of namespace that has a parameter, by the OCI's name; "" for the whole
    host's.
    """
    if path in _FILES:
        return _FILES[path]
    return next((kind for start, kind in _DIRECTORIES.items() if path.startswith(start)), "")
