"""The place of a mount in the container's root: opened once, and checked.

See: runtime-spec config.md "Mounts"; CVE-2019-16884, CVE-2019-19921, CVE-2025-52881.
"""

from __future__ import annotations

import errno

from minicontainer.errors import InvalidArgument, KernelError
from minicontainer.kernel import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.kernel.paths import Root
    from minicontainer.runtime.config.spec import Mount

# Files of proc that nothing here relies on. lxcfs and others mount their own versions on them, so
# that a container reads numbers of its own; engines mount two of them.
_INFORMING = (
    "/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/slabinfo",
    "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
)  # fmt: skip


def is_root(mount: Mount) -> bool:
    """Report whether a mount is the root itself: its destination is "/", however it is spelt."""
    parts = {part for part in mount.destination.split("/") if part not in ("", ".")}
    return not parts and "remount" not in mount.options


def open_plain(root: Root, mount: Mount) -> int:
    """Open a directory without following any link; make it if it is missing.

    A directory that is later trusted as /proc must not be one that the image chose by a link:
    CVE-2019-19921, CVE-2023-27561.

    Raises:
        InvalidArgument: there is a link.
    """
    try:
        return paths.make_plain_in_root(root.fd, mount.destination, directory=True)
    except KernelError as error:
        if error.errno != errno.ELOOP:
            raise
        raise InvalidArgument(
            f"{mount.destination} is a symbolic link in the root file system: "
            f"{mount.type} is mounted on real directories only"
        ) from None


def check(root: Root, place: int, mount: Mount) -> None:
    """Refuse a mount over the root, or over /proc and its files, except those in _INFORMING.

    The check is on the place that was opened, not on its path: a link may lead there.

    Raises:
        InvalidArgument: it is such a place.
    """
    inside = root.inside(place)
    if inside == mount.source == "/proc":
        return  # a bind of the host's whole /proc: for containers in its PID namespace
    if (inside == "/proc" or inside.startswith("/proc/")) and inside not in _INFORMING:
        raise InvalidArgument(
            f"can't mount {mount.source} on {mount.destination}: what is in /proc must be the "
            f"kernel's; mount it elsewhere (these may be covered: {', '.join(_INFORMING)})"
        )
    if inside == "/":
        raise InvalidArgument(
            f"can't mount {mount.source} on {mount.destination}: it leads to the root itself"
        )
