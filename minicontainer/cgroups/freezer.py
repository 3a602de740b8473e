"""Report whether a cgroup is frozen: one file to read, on either version.

This is not in the drivers, because every command on an existing container needs it.

See: kernel cgroup-v1/freezer-subsystem.rst; cgroup-v2.rst "cgroup.freeze".
"""

from __future__ import annotations

from minicontainer.kernel import files


def is_frozen(file: str) -> bool:
    """Report whether a group's processes are frozen, or about to be.

    Args:
        file: from `Cgroup.freezer`; the group may be gone. "" if there is no freezer.
    """
    try:
        return files.read_file(file).strip() in ("FROZEN", "FREEZING", "1")
    except OSError:
        return False
