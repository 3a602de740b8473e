"""A container's life from outside: create, start, wait, kill, delete.

The parent makes all that outlives the child (its name, its cgroup) and takes it back through one
`ExitStack` when anything fails. What the child makes in its own namespaces ends with the child.

See: runtime-spec runtime.md "Lifecycle"; the child's side is `init`.
"""

from __future__ import annotations

import contextlib
import os

from minicontainer import steps
from minicontainer.cgroups.cgroup import open_cgroup
from minicontainer.errors import InitError, KernelError
from minicontainer.kernel import namespaces, process, seccomp, signals
from minicontainer.kernel.namespaces import NAMESPACES
from minicontainer.runtime import foreground, idmaps, init
from minicontainer.runtime.defaults import DENY_ALL_DEVICES, DEVICE_RULES
from minicontainer.runtime.state import State
from minicontainer.runtime.sync import Failed, Forked, Go, Happened, Ready, Start, channel_pair

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack
    from typing import Any, NoReturn

    from minicontainer.cgroups.cgroup import Cgroup
    from minicontainer.record import Record
    from minicontainer.runtime.spec import Bundle, Linux, Spec
    from minicontainer.runtime.state import Store
    from minicontainer.runtime.sync import Channel


class Container:
    """A container that this process created and holds.

    Args:
        state: as saved.
        pid, pidfd: its first process.
        channel: to that process, until its program runs.
        cgroup: its cgroup.
        undo: what has been made, to be taken back by `delete`.
    """

    def __init__(
        self, state: State, pidfd: int, channel: Channel, cgroup: Cgroup, undo: ExitStack
    ) -> None:
        self.state = state
        self.pid = state.pid
        self.pidfd = pidfd
        self.cgroup = cgroup
        self._channel = channel
        self._undo = undo

    def start(self) -> None:
        """Let the program run; return when execve(2) has happened.

        Raises:
            InitError: the program could not be started.
        """
        steps.take(start, self.pid, self._channel)

    def signal(self, number: int) -> None:
        """Send a signal to the first process; nothing happens when it has ended."""
        try:
            process.pidfd_send_signal(self.pidfd, number)
        except KernelError as error:
            if error.errno != 3:  # ESRCH
                raise

    def wait(self) -> int:
        """Wait for the first process to end; give its exit status, 128+N for signal N."""
        return process.wait_exit(self.pid)

    def delete(self) -> None:
        """Take back all that was made for the container: processes, cgroup, name."""
        self._undo.close()


def create(
    name: str,
    bundle: Bundle,
    store: Store,
    *,
    console: Any = None,
    foreground: bool = True,
) -> Container:
    """Bring a container to `created`: isolated, set up, waiting for `start`.

    Args:
        name: claimed in *store*.
        bundle: checked before.
        store: where its state is kept, and compiled filters.
        console: a socket that gets the terminal's master, if the specification wants a terminal.
        foreground: the caller stays: if it is killed, so is the container.
    Raises:
        Conflict: the name is taken.
        InitError: a step failed inside;  KernelError: outside. Nothing is left behind.
    """
    spec = bundle.spec
    with contextlib.ExitStack() as undo:
        lock = steps.take(reserve_name, name, store, undo)
        undo.callback(os.close, lock)
        state = State(
            id=name,
            bundle=bundle.path,
            cgroup=spec.linux.cgroups_path or f"/minicontainer/{name}",
            annotations=spec.annotations,
        )
        store.save(state)
        cgroup = steps.take(create_cgroup, state.cgroup, spec.linux, undo)
        ours, theirs = channel_pair()
        undo.callback(ours.close)
        child = init.Init(
            bundle,
            theirs,
            cgroup.mounts(),
            program=compile_filter(spec.linux, store),
            console=console,
            idmapped=open_idmapped_mounts(spec, undo),
            foreground=foreground,
            doors=cgroup.doors(),
        )
        pid, pidfd = steps.take(fork_init, child, ours, cgroup)
        undo.callback(os.close, pidfd)
        undo.callback(end_init, pid, pidfd)
        theirs.close()
        for _, door in child.doors:
            os.close(door)
        if spec.new_namespace("user"):
            steps.take(write_id_maps, pid, spec.linux)
        ours.send(Go())
        wait_for_ready(ours, pid)
        created = store.save(state.replace(status="created", pid=pid))
        return Container(created, pidfd, ours, cgroup, undo.pop_all())


def reserve_name(name: str, store: Store, undo: ExitStack) -> int:
    """Claim the container's name, by making its directory: mkdir(2) succeeds for one caller."""
    lock = store.reserve(name)
    undo.callback(store.forget, name)
    return lock


def create_cgroup(path: str, linux: Linux, undo: ExitStack) -> Cgroup:
    """Make the container's cgroup and set its limits, before any process is in it."""
    cgroup = open_cgroup(path)
    cgroup.create()
    undo.callback(cgroup.remove)
    cgroup.limit(linux.resources)
    cgroup.allow_devices((DENY_ALL_DEVICES, *linux.resources.devices, *DEVICE_RULES))
    # Without a PID namespace of its own, a container's processes outlive its first one.
    undo.callback(cgroup.kill)
    return cgroup


def compile_filter(linux: Linux, store: Store) -> bytes:
    """Turn the seccomp profile into a program, or find the one compiled before."""
    if linux.seccomp is None:
        return b""
    seccomp.filter_flags(linux.seccomp)  # refuses what init could only fail on
    return seccomp.cached_program(linux.seccomp, os.path.join(store.root, ".filters"))


def open_idmapped_mounts(spec: Spec, undo: ExitStack) -> dict[int, int]:
    """Make the mounts that show other owners, which only the host's root may."""
    found = {}
    for i, mount in enumerate(spec.mounts):
        if mount.uid_mappings:
            found[i] = idmaps.open_mount(mount)
            undo.callback(os.close, found[i])
    return found


def fork_init(child: init.Init, ours: Channel, cgroup: Cgroup) -> tuple[int, int]:
    """Fork the first process into its new namespaces, on cgroup v2 also straight into its cgroup.

    All at once, by clone3(2): no moment at which it is in some of them.
    """
    linux = child.spec.linux
    made = {namespace.type for namespace in linux.namespaces if not namespace.path}
    flags = sum(row.flag for row in NAMESPACES if row.type in made and row.made == "clone")
    cgroup_fd = cgroup.fd()
    try:
        if "time" in made or any(namespace.path for namespace in linux.namespaces):
            return _fork_by_joiner(child, ours, flags, cgroup_fd)
        pid, pidfd = namespaces.clone3(flags, cgroup_fd=cgroup_fd)
        if pid == 0:
            init.main(child)
        return pid, pidfd
    finally:
        if cgroup_fd is not None:
            os.close(cgroup_fd)


def _fork_by_joiner(
    child: init.Init, ours: Channel, flags: int, cgroup_fd: int | None
) -> tuple[int, int]:
    """Fork a process that joins what is to be joined, and let it fork init as our own child.

    Joining changes a process for good, and this one goes on on the host's side.
    """
    joiner = os.fork()
    if joiner == 0:
        _join_and_fork(child, flags, cgroup_fd)
    answer = _next(ours, joiner)
    os.waitpid(joiner, 0)
    if not isinstance(answer, Forked):
        raise InitError("the joined namespaces gave no process")
    return answer.pid, process.pidfd_open(answer.pid)


def _join_and_fork(child: init.Init, flags: int, cgroup_fd: int | None) -> NoReturn:
    try:
        if steps.listening():
            steps.listen(lambda event: child.channel.send(Happened(event=event)), "joiner")
        for row in NAMESPACES:
            _enter(child.spec.linux, row)
        pid, _ = namespaces.clone3(flags | namespaces.CLONE_PARENT, cgroup_fd=cgroup_fd)
        if pid == 0:
            init.main(child)
        child.channel.send(Forked(pid=pid))
    except BaseException as error:  # the process ends here, and its parent says why
        with contextlib.suppress(OSError):
            child.channel.send(init.failure(error))
    os._exit(0)


def _enter(linux: Linux, row: namespaces.Namespace) -> None:
    for asked in linux.namespaces:
        if asked.type == row.type and asked.path:
            fd = namespaces.open_namespace(asked.path, row)
            namespaces.setns(fd, row)
            os.close(fd)
        elif asked.type == row.type and row.made == "before":
            namespaces.unshare(row.flag)
            for clock, offset in linux.time_offsets.items():
                namespaces.write_clock_offset(clock, offset.secs, offset.nanosecs)


def end_init(pid: int, pidfd: int) -> None:
    """Kill the first process, if it still runs, and take its exit status."""
    with contextlib.suppress(KernelError):
        process.pidfd_send_signal(pidfd, signals.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def write_id_maps(pid: int, linux: Linux) -> None:
    """Say who is who in the new user namespace: only a process outside may map other ids."""
    namespaces.write_id_maps(pid, linux.uid_mappings, linux.gid_mappings)


def wait_for_ready(channel: Channel, pid: int) -> None:
    """Pass on init's events until it is ready; raise what went wrong inside."""
    if not isinstance(_next(channel, pid), Ready):
        raise InitError("the container's first process broke the protocol")


def start(pid: int, channel: Channel) -> None:
    """Tell init to become the program, and wait until it has."""
    with contextlib.suppress(BrokenPipeError):  # it died: reading says so
        channel.send(Start())
    while (message := channel.receive()) is not None:
        _handle(message, pid)
    channel.close()


def _next(channel: Channel, pid: int) -> Record:
    while (message := channel.receive()) is not None:
        if _handle(message, pid):
            return message
    raise InitError(_why_it_ended(pid))


def _handle(message: Record, pid: int) -> bool:
    """Deal with events and failures; say whether the message is another one."""
    if isinstance(message, Happened):
        steps.deliver(message.event.replace(pid=pid))
        return False
    if isinstance(message, Failed):
        raise message.error()
    return True


def _why_it_ended(pid: int) -> str:
    try:
        status = process.wait_exit(pid)
    except ChildProcessError:
        status = 0
    if status == 128 + signals.SIGKILL:
        return (
            "the container's first process was killed before its program ran: "
            "if the memory limit is small, raise it"
        )
    return f"the container's first process ended before its program ran (status {status})"


# The parent's steps, in their order; those of the child are `init.RECIPE`.
STEPS = (reserve_name, create_cgroup, fork_init, write_id_maps, start)


def run(name: str, bundle: Bundle, store: Store, say: Callable[[str], None]) -> int:
    """Create, start, wait and delete, with the caller's standard streams; give the exit status.

    Args:
        say: tells the user what happens besides.
    Raises:
        foreground.Interrupted: a signal came before the program ran.
    """
    with foreground.interruptible(), contextlib.ExitStack() as undo:
        container = create(name, bundle, store)
        undo.callback(container.delete)
        container.start()
        foreground.pass_signals_on(container, say)
        return container.wait()
