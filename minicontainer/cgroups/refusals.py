"""Explain why the kernel refuses a change of a cgroup, and what to do about it.

The kernel has one error number for many causes; the request and its file tell them apart.
"""

from __future__ import annotations

import errno

from minicontainer.errors import (
    Conflict,
    Error,
    InvalidArgument,
    KernelError,
    NotFound,
    Unsupported,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_NOT_PERMITTED = (
    "this needs root, or a cgroup that was delegated to you (systemd.resource-control, Delegate=)"
)


def of_directory(error: KernelError, path: str) -> Error:
    """Explain why a cgroup could not be made or removed."""
    if error.errno in (errno.EPERM, errno.EACCES):
        return KernelError(error.errno, f"{error.strerror}: {_NOT_PERMITTED}", error.filename)
    if error.errno == errno.EROFS:
        return Unsupported(
            f"cgroup {path}: the cgroup filesystem is mounted read-only here: in a container, "
            "start that one privileged"
        )
    if error.errno == errno.EAGAIN:
        return Conflict(
            f"cgroup {path}: a group above allows no more groups: see its cgroup.max.descendants "
            "and cgroup.max.depth"
        )
    if error.errno == errno.ENOSPC:
        return Conflict(
            f"cgroup {path}: the kernel has no ids left for one more, or the parent has no "
            "processors or memory nodes in cpuset.cpus and cpuset.mems"
        )
    if error.errno == errno.ENAMETOOLONG:
        return InvalidArgument(f"cgroup {path}: a name is longer than 255 bytes: use a shorter one")
    return error


def of_process(error: KernelError, path: str, pid: int) -> Error:
    """Explain why a process could not be put into a cgroup."""
    if error.errno == errno.ESRCH:
        return NotFound(f"process {pid} has ended: it can't be put into cgroup {path}")
    if error.errno == errno.ENOENT:
        return NotFound(f"cgroup {path} does not exist")
    if error.errno == errno.EOPNOTSUPP:
        return Conflict(
            f"cgroup {path} is threaded, because the one above it holds processes: it takes "
            "threads alone; put the container elsewhere"
        )
    if error.errno == errno.EBUSY:
        return Conflict(
            f"cgroup {path} gives controllers to groups below it, and so takes no processes "
            "(cgroups(7), no internal processes): use one of those groups"
        )
    if error.errno == errno.ENOSPC:
        return Conflict(
            f"cgroup {path} has no processors or memory nodes: set cpuset.cpus and cpuset.mems"
        )
    if error.errno == errno.EAGAIN:
        return Conflict(f"cgroup {path} has reached its limit of pids: raise it, or end some")
    if error.errno in (errno.EPERM, errno.EACCES):
        return KernelError(error.errno, f"{error.strerror}: {_NOT_PERMITTED}", error.filename)
    return error


def of_limit(
    error: KernelError, where: str, path: str, file: str, text: str, now: Callable[[str], str]
) -> Error:
    """Explain why the kernel refused a limit.

    Args:
        where: the limit in the configuration: linux.resources.memory.limit.
        path: of the cgroup.
        file, text: what was to be written.
        now: reads a control file of the cgroup, "" if there is none.
    """
    if file == "cpu.max" and " " in text and ".unified." not in where:
        # both at once, and the kernel does not say which one it means
        where = f"{where.rpartition('.')[0]}.quota and period"
    name, number = f"{where}: {text!r}", error.errno
    if number == errno.ENOENT:
        return Unsupported(f"{where}: this kernel has no {file}")
    if number == errno.ENODEV:
        return InvalidArgument(f"{name}: no such device on this host")
    if number == errno.EBUSY and file.startswith("memory."):
        used = now("memory.usage_in_bytes") or now("memory.current")
        return Conflict(f"{name}: {used} bytes are in use, and can't be reclaimed: raise the limit")
    if file.startswith("cpuset."):
        return _of_cpuset(error, name, file, now)
    if number in (errno.EPERM, errno.EACCES):
        return KernelError(number, f"{error.strerror}: {_NOT_PERMITTED}", error.filename)
    if number in (errno.EINVAL, errno.ERANGE, errno.EOPNOTSUPP):
        bound = now(file)
        known = f" (it is now {bound!r})" if bound else ""
        return InvalidArgument(
            f"{name}: the kernel refuses this for {file} of cgroup {path}{known}: {error.strerror}"
        )
    return error


def _of_cpuset(error: KernelError, name: str, file: str, now: Callable[[str], str]) -> Error:
    """Explain by what the parent group has: most refusals of cpuset are about that."""
    offered = now(f"../{file.replace('cpuset.', 'cpuset.effective_')}")  # v1
    offered = offered or now(f"../{file}.effective")
    what = "processors" if file == "cpuset.cpus" else "memory nodes"
    if error.errno == errno.EBUSY or (error.errno == errno.ENOSPC and offered):
        return Conflict(f"{name}: groups below, or processes in this one, use more than that")
    if offered:
        return InvalidArgument(f"{name}: the {what} this host offers here are {offered}")
    return InvalidArgument(f"{name}: not a list of {what} like 0-2,7: {error.strerror}")


def of_devices(error: KernelError, path: str) -> Error:
    """Explain why v1 refuses a device rule."""
    if error.errno == errno.EPERM:
        return KernelError(
            error.errno,
            "it needs root, and a group can't allow more devices than the one above it",
            error.filename,
        )
    if error.errno == errno.EINVAL:
        return Conflict(
            f"cgroup {path}: its list of devices can't change while there are groups below it"
        )
    return error


def of_missing_controller(controller: str, where: str, available: str) -> Unsupported:
    """Explain that a limit's controller is not available.

    Args:
        available: the available controllers, by name.
    """
    return Unsupported(
        f"{where}: no {controller} controller here (there are: {available or 'none'}): it may be "
        f"off in the kernel (boot with cgroup_enable={controller}), not be mounted, or not be "
        "passed on by a group above (systemd: Delegate=yes)"
    )


def of_enabling(error: KernelError, controller: str, where: str, level: str) -> Error:
    """Explain why a group of cgroup v2 does not pass on a controller to the groups below."""
    if error.errno == errno.EBUSY:
        return Conflict(
            f"{where}: cgroup {level} holds processes, and so can't pass its {controller} "
            "controller on (cgroups(7), no internal processes): move them into a group below "
            "it, or put the container elsewhere"
        )
    if error.errno in (errno.EPERM, errno.EACCES):
        return KernelError(error.errno, f"{error.strerror}: {_NOT_PERMITTED}", error.filename)
    if error.errno == errno.EOPNOTSUPP:
        return Conflict(
            f"{where}: cgroup {level} is threaded, and can't pass its {controller} controller on"
        )
    return Unsupported(
        f"{where}: cgroup {level} can't pass its {controller} controller on: {error.strerror}"
    )
