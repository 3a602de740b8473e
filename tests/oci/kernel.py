"""What the kernel says of processes, mounts and cgroups: the tests believe no runtime's output."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Collection
from pathlib import Path

from minicontainer.cgroups import hierarchies
from tests.conftest import wait_until

_PR_SET_CHILD_SUBREAPER = 36
_OURS = os.getpid()


def set_subreaper(on: bool) -> None:
    """Adopt orphans, or no longer: PR_SET_CHILD_SUBREAPER(2const)."""
    assert ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) == 0


def _stat(pid: int | str) -> tuple[str, list[str]]:
    """Read /proc/PID/stat: the command's name, and the fields from the third (`state`) on."""
    text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    before, _, after = text.rpartition(")")
    return before.partition("(")[2], after.split()


def is_alive(pid: int) -> bool:
    """Say whether a process is there, and no zombie."""
    try:
        return _stat(pid)[1][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def start_time(pid: int) -> int:
    """Say when a process began, in clock ticks since boot."""
    return int(_stat(pid)[1][19])


def parent_of(pid: int) -> int:
    """Give a process's parent."""
    return int(_stat(pid)[1][1])


def children() -> dict[int, list[int]]:
    """List all processes of the host, by their parent."""
    found: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.setdefault(parent_of(int(entry)), []).append(int(entry))
    return found


def descendants(pid: int = _OURS) -> list[int]:
    """List the processes that came from one, this test's unless another is named."""
    by_parent = children()
    found, todo = [], [pid]
    while todo:
        for child in by_parent.get(todo.pop(), ()):
            found.append(child)
            todo.append(child)
    return found


def reap(not_these: Collection[int] = ()) -> dict[int, int]:
    """Take the exit status of every orphan that this process adopted and that has ended.

    Returns:
        Exit statuses by process; -N for signal N.
    """
    ended = {}
    for thread in os.listdir("/proc/self/task"):
        try:
            own = Path(f"/proc/self/task/{thread}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread of the test that has just ended: its children are another's now
        for pid in set(map(int, own)).difference(not_these):
            with contextlib.suppress(ChildProcessError):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    ended[pid] = os.waitstatus_to_exitcode(status)
    return ended


def end(pid: int) -> None:
    """Kill a process and wait until it is gone, or a zombie."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), f"the end of process {pid}")


def describe(pid: int) -> str:
    """Name a process for a reader."""
    try:
        return f"{pid} ({_stat(pid)[0]})"
    except (FileNotFoundError, ProcessLookupError):
        return f"{pid} (gone)"


def mount_points() -> set[str]:
    """List this process's mount points."""
    return {
        line.split(" ", 5)[4]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if "libexec/minicontainer" not in line  # the interpreter's own, which stays on purpose
    }


def cgroup_directories(word: str) -> set[str]:
    """List the cgroups with a word in their path, of all hierarchies."""
    # walk, not glob: it passes over what disappears meanwhile
    return {directory for directory, _, _ in os.walk("/sys/fs/cgroup") if word in directory}


def cgroups_of(pid: int) -> dict[str, str]:
    """Name the directories of a process's cgroups, by controller; "" is the one of v2."""
    found = hierarchies.mounted()
    paths: dict[str, str] = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for hierarchy in found.v1:
            if set(controllers.split(",")) & set(hierarchy.controllers):
                paths |= dict.fromkeys(controllers.split(","), f"{hierarchy.mount_point}{path}")
        if not controllers and found.unified:
            paths[""] = f"{found.unified.mount_point}{path}"
    return paths


def control_file(pid: int, v1: str, v2: str) -> str:
    """Read a control file of a process's cgroup.

    Args:
        v1, v2: the file's name on either version; its controller is the part before the point.
    """
    directories = cgroups_of(pid)
    controller = v1.partition(".")[0]
    if controller in directories:
        return (Path(directories[controller]) / v1).read_text().strip()
    return (Path(directories[""]) / v2).read_text().strip()


def is_frozen(pid: int) -> bool:
    """Say whether a process's cgroup is frozen."""
    directories = cgroups_of(pid)
    if "freezer" in directories:
        return (Path(directories["freezer"]) / "freezer.state").read_text() == "FROZEN\n"
    return "frozen 1" in (Path(directories[""]) / "cgroup.events").read_text()


def network_links() -> set[str]:
    """List the host's network interfaces."""
    return set(os.listdir("/sys/class/net"))
