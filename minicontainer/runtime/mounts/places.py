"""Where a mount goes: a place in the container's root, opened once and checked.

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

# Files of proc that nothing here relies on: lxcfs and its like show a container its own, and
# engines tell it by two of them what it would read from the host.
_INFORMING = (
    "/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/slabinfo",
    "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
)  # fmt: skip


def is_root(mount: Mount) -> bool:
    """Say whether a mount is the root itself: its destination is "/", in whatever spelling."""
    parts = {part for part in mount.destination.split("/") if part not in ("", ".")}
    return not parts and "remount" not in mount.options


def open_plain(root: Root, mount: Mount) -> int:
    """Open a directory with no link on the way, made where it is missing.

    What is trusted later as /proc must not be somewhere that the image chose by a link:
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
    """Refuse to cover what is trusted as /proc, but for files that only inform; and the root.

    Where the place is, and not what the specification called it: a link may lead there.

    Raises:
        InvalidArgument: it is such a place.
    """
    inside = root.inside(place)
    if inside == mount.source == "/proc":
        return  # the host's, as a whole: for who shares its PID namespace
    if (inside == "/proc" or inside.startswith("/proc/")) and inside not in _INFORMING:
        raise InvalidArgument(
            f"can't mount {mount.source} on {mount.destination}: what is in /proc must be the "
            f"kernel's; mount it elsewhere (these may be covered: {', '.join(_INFORMING)})"
        )
    if inside == "/":
        raise InvalidArgument(
            f"can't mount {mount.source} on {mount.destination}: it leads to the root itself"
        )
