"""Fork the container's first process: directly into new namespaces, or by a joiner.

    new namespaces only     the parent clones init into all of them at once
    some joined by path,    the parent forks a joiner, which joins them and clones init as the
    or a time namespace     parent's own child: joining changes a process for good

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
    """Fork the first process into its new namespaces, and on cgroup v2 also into its cgroup.

    clone3(2) does this at once: at no moment is the process in only some of them.
    """
    linux = child.spec.linux
    made = {namespace.type for namespace in linux.namespaces if not namespace.path}
    flags = sum(row.flag for row in NAMESPACES if row.type in made and row.made == "clone")
    if child.options.for_parent:
        flags |= namespaces.CLONE_PARENT
    cgroup_fd = cgroup.fd()
    joined = {namespace.type for namespace in linux.namespaces if namespace.path}
    try:
        if "cgroup" in joined and cgroup_fd is not None:
            # A process in a joined cgroup namespace, which has another root, can't fork a child
            # into the container's cgroup: cgroup-v2.rst "Delegation Containment". But from outside,
            # a process can be moved into it.
            forked = fork_by_joiner(child, ours, lambda: _enter_all(linux), flags, None)
            cgroup.add(forked[0])
            return forked
        if joined or any(row.type in made and row.made == "before" for row in NAMESPACES):
            return fork_by_joiner(child, ours, lambda: _enter_all(linux), flags, cgroup_fd)
        pid, pidfd = _clone(flags, cgroup_fd)
        if pid == 0:
            # otherwise init would keep its own end of the pipe open, and never see this process end
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
    """Fork a joiner: it joins namespaces, and forks init as a child of this process.

    Joining changes a process for good, and this process must stay on the host's side.

    Args:
        join: the function that joins; it runs in the joiner.
        flags: CLONE_NEW… flags of the new namespaces.
        cgroup_fd: the v2 cgroup that init starts in, or None.
        recipe: the steps that the child follows.
    Returns:
        The child's pid and pidfd.
    """
    # The joiner has a channel of its own, which its child does not hold open. So the parent sees a
    # joiner that was killed, and the child sees that no parent knows of it.
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
        raise InitError("the joiner sent no process")
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
            steps.take(set_oom_score, "self", score)  # init inherits it
        # The child inherits this. At no moment may a process of the PID namespace that it is born
        # into trace it: it still has what the host gave it.
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
    for row in NAMESPACES:  # in the table's order; NAMESPACES says why
        if path := asked.get(row.type):
            _join(path, row)


def set_time_offsets(linux: Linux) -> None:
    """Shift the clocks of the new time namespace, before any process is in it.

    The joiner has made the namespace for its children, and is not in it; its /proc is still the
    host's.
    See: time_namespaces(7).
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
                f"{path} can't be joined: it is not a {row.type} namespace, or this process is "
                "in it already (user), or not above it (pid)"
            ) from None
        raise
    finally:
        os.close(fd)
