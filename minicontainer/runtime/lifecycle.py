"""A container's life from outside: create, start, wait, kill, delete.

The parent makes all that outlives the child (its name, its cgroup) and takes it back through one
`ExitStack` when anything fails. What the child makes in its own namespaces ends with the child.

See: runtime-spec runtime.md "Lifecycle"; the child's side is `init`.
"""

from __future__ import annotations

import contextlib
import errno
import os

from minicontainer import steps
from minicontainer.cgroups.cgroup import open_cgroup
from minicontainer.errors import Error, InitError, InvalidArgument, KernelError, Unsupported
from minicontainer.kernel import namespaces, process, seccomp, signals
from minicontainer.kernel.namespaces import NAMESPACES
from minicontainer.runtime import foreground, init, rootfs
from minicontainer.runtime.defaults import DENY_ALL_DEVICES, DEVICE_RULES
from minicontainer.runtime.state import State
from minicontainer.runtime.sync import Failed, Forked, Go, Happened, Ready, Start, channel_pair

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack
    from typing import Any, NoReturn

    from minicontainer.cgroups.cgroup import Cgroup
    from minicontainer.kernel.seccomp import Seccomp
    from minicontainer.record import Record
    from minicontainer.runtime.spec import Bundle, Spec
    from minicontainer.runtime.spec_linux import Linux
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
            if error.errno != errno.ESRCH:
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
) -> Container:
    """Bring a container to `created`: isolated, set up, waiting for `start`.

    Args:
        name: claimed in *store*.
        bundle: checked before.
        store: where its state is kept, and compiled filters.
        console: a socket that gets the terminal's master, if the specification wants a terminal.
    Raises:
        Conflict: the name is taken.
        InitError: a step failed inside;  KernelError: outside. Nothing is left behind.
    """
    spec = bundle.spec
    with contextlib.ExitStack() as undo:
        steps.take(reserve_name, name, store, undo)
        state = State(
            id=name,
            bundle=bundle.path,
            cgroup=spec.linux.cgroups_path or f"/minicontainer-{name}",
            annotations=spec.annotations,
        )
        store.save(state)
        cgroup = steps.take(create_cgroup, state.cgroup, spec, undo)
        program, copies = b"", {}
        if spec.linux.seccomp:
            program = steps.take(compile_filter, spec.linux.seccomp, store)
        if any(map(rootfs.comes_from_the_host, spec.mounts)):
            copies = steps.take(copy_host_mounts, spec, undo)
        ours, theirs = channel_pair()
        undo.callback(ours.close)
        undo.callback(theirs.close)  # long closed by then, unless something fails
        child = init.Init(
            bundle,
            theirs,
            cgroup.mounts(),
            program=program,
            console=console,
            copies=copies,
            tasks_files=cgroup.tasks_files(),
        )
        pid, pidfd = steps.take(fork_init, child, ours, cgroup)
        undo.callback(os.close, pidfd)
        undo.callback(steps.take, end_init, pid, pidfd)
        theirs.close()
        for _, tasks_fd in child.tasks_files:
            os.close(tasks_fd)
        if spec.new_namespace("user"):
            steps.take(write_id_maps, pid, spec.linux)
        ours.send(Go())
        wait_for_ready(ours, pid)
        created = store.save(state.replace(status="created", pid=pid))
        return Container(created, pidfd, ours, cgroup, undo.pop_all())


def reserve_name(name: str, store: Store, undo: ExitStack) -> None:
    """Claim the container's name, by making its directory: mkdir(2) succeeds for one caller."""
    # The lock is given up last: until the name is free, nobody else may take it for abandoned.
    undo.callback(os.close, store.reserve(name))
    undo.callback(store.forget, name)


def create_cgroup(path: str, spec: Spec, undo: ExitStack) -> Cgroup:
    """Make the container's cgroup and set its limits, before any process is in it."""
    cgroup = open_cgroup(path)
    cgroup.create()
    undo.callback(steps.take, remove_cgroup, cgroup)
    resources = spec.linux.resources
    cgroup.limit(resources.as_of(spec.oci_version))
    cgroup.allow_devices((DENY_ALL_DEVICES, *resources.devices, *DEVICE_RULES))
    undo.callback(steps.take, end_processes, cgroup)
    return cgroup


def compile_filter(profile: Seccomp, store: Store) -> bytes:
    """Turn the seccomp profile into a program, or find the one compiled before."""
    seccomp.filter_flags(profile)  # refuses what init could only fail on
    return seccomp.cached_program(profile, os.path.join(store.root, ".filters"))


def copy_host_mounts(spec: Spec, undo: ExitStack) -> dict[int, int]:
    """Copy the mounts that only a process of the host can: detached, for init to put in place.

    Those that show other owners, which the host's root alone may make; and those that stay linked
    to the host's (slave, shared): in the container's mount namespace all links are cut.
    """
    found = {}
    for i, mount in enumerate(spec.mounts):
        if rootfs.comes_from_the_host(mount):
            from minicontainer.runtime import idmaps  # few containers need it

            copy = idmaps.open_mount if mount.uid_mappings else rootfs.open_source
            found[i] = copy(mount)
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
        joined = any(namespace.path for namespace in linux.namespaces)
        if joined or any(row.type in made and row.made == "before" for row in NAMESPACES):
            return _fork_by_joiner(child, ours, flags, cgroup_fd)
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


def _fork_by_joiner(
    child: init.Init, ours: Channel, flags: int, cgroup_fd: int | None
) -> tuple[int, int]:
    """Fork a process that joins what is to be joined, and let it fork init as our own child.

    Joining changes a process for good, and this one goes on on the host's side.
    """
    joiner = process.fork()
    if joiner == 0:
        ours.close()
        _join_and_fork(child, flags, cgroup_fd)
    child.channel.close()  # or a joiner that is killed would never be seen to be gone
    try:
        answer = _next(ours, joiner)
    finally:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(joiner, 0)
    if not isinstance(answer, Forked):
        raise InitError("the joined namespaces gave no process")
    return answer.pid, process.pidfd_open(answer.pid)


def _join_and_fork(child: init.Init, flags: int, cgroup_fd: int | None) -> NoReturn:
    try:
        init.pass_events_on(child.channel, "joiner")
        for row in NAMESPACES:
            _enter(child.spec.linux, row)
        pid, _ = _clone(flags | namespaces.CLONE_PARENT, cgroup_fd)
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
            _join(asked.path, row)
        elif asked.type == row.type and row.made == "before":
            namespaces.unshare(row.flag)
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


def end_init(pid: int, pidfd: int) -> None:
    """Kill the first process, if it still runs, and take its exit status.

    By a descriptor that was opened when it was forked: its number may be another's by now.
    """
    with contextlib.suppress(KernelError):
        process.pidfd_send_signal(pidfd, signals.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def end_processes(cgroup: Cgroup) -> None:
    """Kill what is left in the cgroup.

    Without a PID namespace of its own, a container's processes outlive its first one.
    """
    cgroup.kill()


def remove_cgroup(cgroup: Cgroup) -> None:
    """Remove the cgroup, and with it the limits."""
    cgroup.remove()


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
    # Not `_receive`: the program may run by now, and then a signal is for it to have.
    while (message := channel.receive()) is not None:
        _handle(message, pid)
    channel.close()


def _next(channel: Channel, pid: int) -> Record:
    while (message := _receive(channel)) is not None:
        if _handle(message, pid):
            return message
    raise InitError(_why_it_ended(pid))


def _receive(channel: Channel) -> Record | None:
    with foreground.waiting():
        return channel.receive()


def _handle(message: Record, pid: int) -> bool:
    """Deal with events and failures; say whether the message is another one."""
    if isinstance(message, Happened):
        # The program's process, where init stays beside it, knows only its number inside.
        known = message.event.actor != "program"
        steps.deliver(message.event.replace(pid=pid if known else 0))
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


# The parent's steps, for who explains them; they are taken in `create` and `start`, in the order
# in which they stand there. (The child's, `init.RECIPE`, are executed as listed.)
STEPS = (
    reserve_name,
    create_cgroup,
    compile_filter,
    copy_host_mounts,
    fork_init,
    write_id_maps,
    start,
    end_init,        # from here on: what is taken back, in the end or when a step failed
    end_processes,
    remove_cgroup,
)  # fmt: skip


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
        with foreground.passing_signals_on(container, say):
            return container.wait()
