"""No cgroup: the container's processes stay in the caller's (`--cgroup-manager disabled`).

So nothing limits or counts them together, and nothing finds those that outlive the container's
first process where it had no PID namespace.
"""

from __future__ import annotations

from minicontainer.cgroups import hierarchies
from minicontainer.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal, NoReturn

    from minicontainer.cgroups.hierarchies import View
    from minicontainer.cgroups.limits import DeviceRule, Resources
    from minicontainer.cgroups.oom import OomWatch
    from minicontainer.cgroups.stats import Stats


def _refuse(what: str) -> NoReturn:
    raise Unsupported(f"{what}: the container has no cgroup of its own (--cgroup-manager disabled)")


class AbsentCgroup:
    """What `Cgroup` promises, where there is none."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.version: Literal["v1", "hybrid", "v2"] = hierarchies.mounted().version

    def create(self) -> None:
        """Make nothing."""

    def add(self, pid: int) -> None:
        """Leave the process where it is."""

    def give_to(self, uid: int, gid: int) -> None:
        """Give nothing."""

    def limit(self, resources: Resources) -> None:
        """Set no limit, as crun does."""

    def planned(self, resources: Resources) -> list[tuple[str, str]]:
        """Give no writes: there are no limits."""
        return []

    def allow_devices(self, rules: Iterable[DeviceRule]) -> None:
        """Keep no device away, as crun does."""

    def stats(self) -> Stats:
        """Refuse: nothing is counted."""
        _refuse("counters")

    def oom_kills(self) -> int:
        """Count none."""
        return 0

    def watch_oom(self) -> OomWatch:
        """Refuse: there is no limit to be reached."""
        _refuse("memory events")

    def freeze(self) -> None:
        """Refuse."""
        _refuse("pause")

    def thaw(self) -> None:
        """Refuse."""
        _refuse("resume")

    def frozen(self) -> bool:
        """Report that they are not."""
        return False

    def freezer(self) -> str:
        """Name no file."""
        return ""

    def processes(self) -> tuple[int, ...]:
        """List none: they can't be told from the caller's."""
        return ()

    def kill(self, timeout_s: float = 10) -> None:
        """Kill nothing."""

    def remove(self, timeout_s: float = 5) -> None:
        """Remove nothing."""

    def fd(self) -> int | None:
        """Open nothing."""
        return None

    def unified_path(self) -> str:
        """Name none."""
        return ""

    def tasks_paths(self) -> tuple[str, ...]:
        """Name none."""
        return ()

    def tasks_files(self) -> tuple[tuple[str, int], ...]:
        """Open none."""
        return ()

    def mounts(self) -> tuple[View, ...]:
        """Show none: the container's /sys/fs/cgroup is empty."""
        return ()
