"""How the container's first process comes to be: forked into its namespaces, or by a joiner.

    new namespaces only     the parent clones init into all of them at once
    some joined by path,    the parent forks a joiner, which joins, and clones init as the parent's
    or a time namespace     own child: joining changes a process for good, and the parent goes on

See: clone(2), setns(2), namespaces(7).
"""

from __future__ import annotations

import errno
import os

from minicontainer import steps
from minicontainer.contexts import suppress
from minicontainer.errors import Error, InitError, InvalidArgument, KernelError, Unsupported
from minicontainer.kernel import namespaces, pidfds, process
from minicontainer.kernel.namespaces import NAMESPACES
from minicontainer.runtime import inputs
from minicontainer.runtime.child import init
from minicontainer.runtime.child.attributes import set_oom_score
from minicontainer.runtime.sync import (
    Forked,
    channel_pair,
    failure,
    next_message,
    pass_events_on,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from minicontainer.cgroups.cgroup import Cgroup
    from minicontainer.runtime.child.init import Recipe
    from minicontainer.runtime.config.spec_linux import Linux
    from minicontainer.runtime.sync import Channel


def fork_init(child: inputs.Init, ours: Channel, cgroup: Cgroup) -> tuple[int, int]:
    """Fork the first process into its new namespaces, on cgroup v2 also straight into its cgroup.

    All at once, by clone3(2): no moment at which it is in some of them.
    """
    linux = child.spec.linux
    made = {namespace.type for namespace in linux.namespaces if not namespace.path}
    flags = sum(row.flag for row in NAMESPACES if row.type in made and row.made == "clone")
    cgroup_fd = cgroup.fd()
    joined = {namespace.type for namespace in linux.namespaces if namespace.path}
    try:
        if "cgroup" in joined and cgroup_fd is not None:
            # From a namespace that begins elsewhere nobody can be forked into the container's
            # group: cgroup-v2.rst "Delegation Containment". Who is not in it may be moved.
            forked = fork_by_joiner(child, ours, lambda: _enter_all(linux), flags, None)
            cgroup.add(forked[0])
            return forked
        if joined or any(row.type in made and row.made == "before" for row in NAMESPACES):
            return fork_by_joiner(child, ours, lambda: _enter_all(linux), flags, cgroup_fd)
        pid, pidfd = _clone(flags, cgroup_fd)
        if pid == 0:
            # or this process would keep alive the very pipes whose closing tells it of our end
            ours.close()
            init.main(child)
        return pid, pidfd
    finally:
        if cgroup_fd is not None:
            os.close(cgroup_fd)


def _clone(flags: int, cgroup_fd: int | None) -> tuple[int, int]:
    try:
        return namespaces.clone3(flags, cgroup_fd=cgroup_fd)
    except KernelError as error:
        raise _refusal(error) from None


def _refusal(error: KernelError) -> Error:
    """Explain why the kernel makes no process in new namespaces."""
    if error.errno == errno.EPERM:
        return Unsupported(
            "not permitted to make namespaces: this needs CAP_SYS_ADMIN, also for root: in a "
            "container, start that one privileged (`minicontainer check` tells what is missing)"
        )
    if error.errno == errno.ENOSPC:
        return Unsupported(
            "no more namespaces: a limit of /proc/sys/user/max_*_namespaces is reached: raise it"
        )
    return error


def fork_by_joiner(
    child: inputs.Init,
    ours: Channel,
    join: Callable[[], None],
    flags: int,
    cgroup_fd: int | None,
    recipe: Recipe = init.RECIPE,
) -> tuple[int, int]:
    """Fork a process that joins what is to be joined, and let it fork init as our own child.

    Joining changes a process for good, and this one goes on on the host's side.

    Args:
        join: called in that process.
        flags: CLONE_NEW… flags of what is new.
        cgroup_fd: the v2 cgroup to be born in, or None.
        recipe: what the child follows.
    Returns:
        The child's pid and pidfd.
    """
    # Its own, which the child that it forks does not hold open: so one that is killed is seen to be
    # gone, and its child sees that nobody knows of it.
    answers, told = channel_pair()
    joiner = process.fork()
    if joiner == 0:
        ours.close()
        answers.close()
        _join_and_fork(child, told, join, flags, cgroup_fd, recipe)
    child.channel.close()
    told.close()
    try:
        answer = next_message(answers, joiner)
    finally:
        answers.close()
        with suppress(ChildProcessError):
            os.waitpid(joiner, 0)
    if not isinstance(answer, Forked):
        raise InitError("the joined namespaces gave no process")
    return answer.pid, pidfds.pidfd_open(answer.pid)


def _join_and_fork(
    child: inputs.Init,
    told: Channel,
    join: Callable[[], None],
    flags: int,
    cgroup_fd: int | None,
    recipe: Recipe,
) -> NoReturn:
    try:
        pass_events_on(told, "joiner")
        score = child.spec.process.oom_score_adj
        if score is not None:
            steps.take(set_oom_score, "self", score)  # inherited too
        # The child inherits this, and must not be traced from the PID namespace it is born into
        # for a single moment: it still holds what the host gave it.
        process.set_dumpable(False)
        join()
        pid, _ = _clone(flags | namespaces.CLONE_PARENT, cgroup_fd)
        if pid == 0:
            init.main(child, recipe)
        told.send(Forked(pid=pid))
    except BaseException as error:  # the process ends here, and its parent says why
        with suppress(OSError):
            told.send(failure(error))
    os._exit(0)


def _enter_all(linux: Linux) -> None:
    """Make the namespaces that are made before the fork, and join those that have a path."""
    asked = {namespace.type: namespace.path for namespace in linux.namespaces}
    for row in NAMESPACES:
        if row.type in asked and not asked[row.type] and row.made == "before":
            namespaces.unshare(row.flag)
    if linux.time_offsets:
        steps.take(set_time_offsets, linux)
    for row in NAMESPACES:  # in the table's order, which says why
        if path := asked.get(row.type):
            _join(path, row)


def set_time_offsets(linux: Linux) -> None:
    """Shift the clocks of the new time namespace, before any process is in it.

    The joiner has made it for its children, and is not in it itself; its own /proc is still the
    host's. See: time_namespaces(7).
    """
    for clock, offset in linux.time_offsets.items():
        namespaces.write_clock_offset(clock, offset.secs, offset.nanosecs)


def _join(path: str, row: namespaces.Namespace) -> None:
    fd = namespaces.open_namespace(path, row)
    try:
        namespaces.setns(fd, row)
    except KernelError as error:
        if error.errno == errno.EINVAL:
            raise InvalidArgument(
                f"{path} can't be joined: it is no {row.type} namespace, or one that this process "
                "is in already (user) or is not below (pid)"
            ) from None
        raise
    finally:
        os.close(fd)
