"""What `compare` may find between `minicontainer-oci` and another runtime, and why it is so.

docs/reference/learn.md has this table, and tests/learn/test_compare.py compares the two.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from minicontainer.record import Record
from minicontainer.runtime.config import defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.learn.differences import Difference


class Known(Record):
    """A difference that is as it should be.

    Args:
        runtime: the other one's name; * for any.
        table: of `differences`.
        name: within the table; * and ? stand for other characters.
        why: a clause.
    """

    runtime: str
    table: str
    name: str
    why: str


MASKED, READONLY = "a masked path", "a read-only path"  # names that stand for those of the defaults
_PATHS = {MASKED: defaults.MASKED_PATHS, READONLY: defaults.READONLY_PATHS}
KNOWN = tuple(
    Known(runtime=runtime, table=table, name=name, why=why)
    for runtime, table, name, why in (
        ("*", "mounts", "/sys/fs/cgroup", "their tmpfs stays writable; ours is read-only when it "
         "is filled"),
        ("*", "filesystems", "/sys/fs/cgroup", "the tmpfs has another size"),
        ("*", "mounts", "/sys/fs/cgroup/unified", "on a host with v1 and v2 they leave v2 out"),
        ("*", "filesystems", "/sys/fs/cgroup/unified", "on a host with v1 and v2 they leave v2 "
         "out"),
        ("*", "filesystems", MASKED, "what covers it is another mount of tmpfs or of the null "
         "device"),
        ("*", "limits", "devices.list", "ours allows /dev/console (5:1), which runc leaves out, "
         "and /dev/net/tun (10:200), which crun leaves out"),
        ("runc", "mounts", MASKED, "a file is covered by the container's own /dev/null, writable; "
         "ours by the host's, read-only, so that nobody inside can exchange it (CVE-2025-31133)"),
        ("runc", "mounts", "/sys/fs/cgroup/systemd", "the mount has another name of its source"),
        ("crun", "mounts", "/sys/fs/cgroup/*", "the mounts have another name of their source"),
        ("crun", "mounts", READONLY, "theirs lose nosuid, noexec and nodev of /proc"),
        ("crun", "mounts", "/dev/console", "theirs lacks nosuid and noexec"),
        ("crun", "filesystems", "/sys", "ours is read-only as a filesystem too"),
        ("crun", "devices", "/dev/core", "a link to /proc/kcore, which is masked"),
        ("crun", "devices", "/dev/null", "crun gives a stream that is the null device to the "
         "program's user"),
        ("crun", "environment", "HOME", "a user who is not in /etc/passwd gets none"),
    )
)  # fmt: skip


def why(one: Difference, runtime: str) -> str:
    """Say why a difference is as it should be; "" if nobody knows.

    Args:
        runtime: the name of the other runtime.
    """
    for known in KNOWN:
        is_meant = known.runtime in ("*", runtime) and known.table == one.table
        if is_meant and (
            one.name in _PATHS.get(known.name, ()) or fnmatchcase(one.name, known.name)
        ):
            return known.why
    return ""
