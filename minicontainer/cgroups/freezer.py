"""Whether a cgroup's processes stand: one file to read, on either version.

Apart from the drivers, because every command that looks at a container asks.

See: kernel cgroup-v1/freezer-subsystem.rst; cgroup-v2.rst "cgroup.freeze".
"""

from __future__ import annotations


def is_frozen(file: str) -> bool:
    """Say whether a group's processes stand, or are about to.

    Args:
        file: what `Cgroup.freezer` named. The group may be gone; "" where there is no freezer.
    """
    try:
        with open(file, encoding="utf-8") as opened:
            return opened.read().strip() in ("FROZEN", "FREEZING", "1")
    except OSError:
        return False
