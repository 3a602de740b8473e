"""Containers that exist, found by their state: status, start, kill, delete, pause, resume.

The process that created the container has ended. The container's status is asked from the kernel
each time, and never read from a file. Commands that change a container hold its lock, so that only
one works at a time.

See: runtime-spec runtime.md "State", "Operations".
"""

from __future__ import annotations

import errno
import posix

from minicontainer import steps
from minicontainer.cgroups.freezer import is_frozen
from minicontainer.contexts import ExitStack, contextmanager, suppress
from minicontainer.errors import Conflict, Error, InitError, KernelError, NotFound
from minicontainer.kernel import files, pidfds, signals
from minicontainer.runtime import sync
from minicontainer.runtime.container.state import State, check_name, default_cgroup, unknown
from minicontainer.runtime.gate import open_gate
from minicontainer.runtime.hooks import is_fatal, run_poststart_hooks, run_poststop_hooks
from minicontainer.runtime.parent import agents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minicontainer.cgroups.cgroup import Cgroup
    from minicontainer.runtime.config.spec import Hooks
    from minicontainer.runtime.container.state import Store

_PATIENCE_S = 10  # seconds to wait for killed processes to be gone


def load(store: Store, name: str) -> State:
    """Read a container's state.

    Raises:
        NotFound: there is no such container.
        Conflict: its state can't be read whole.
    """
    check_name(name)
    state = store.load(name)
    if state is not None:
        return state
    if not store.has(name):
        raise unknown(name)
    raise Conflict(
        f"container {name}: its state in {store.directory(name)} is incomplete: "
        "remove it with `delete --force`"
    )


def status(state: State, store: Store) -> str:
    """Return a container's status: creating, created, running, paused or stopped."""
    if state.pid and pidfds.start_time(state.pid) != state.pid_started:
        return "stopped"
    # Checked first: until its creator has finished, its root may be the host's, which nobody may
    # enter.
    if store.is_being_created(state.id):
        return "creating"
    if not state.pid:
        return "stopped"
    if is_frozen(state.freezer):
        return "paused"
    gate = open_gate(store.directory(state.id))
    if gate is None:
        return "running"
    gate.close()
    return "created"


def start(name: str, store: Store, prepare: Callable[[], object] | None = None) -> State:
    """Let a created container's program run; return when execve(2) has happened.

    Args:
        prepare: called when it is certain that there is a program to start.
    Raises:
        Conflict: it is not `created`: it was started already, is paused, or has ended.
        InitError: the program could not be started; or a hook failed, and the container is removed.
    """
    with store.operating(name):
        state = load(store, name)
        gate = open_gate(store.directory(name))
        now = status(state, store)
        if gate is None or now != "created":
            raise Conflict(f"cannot start a container in the {now} state: {name}")
        hooks = _hooks_of(state, store)
        if prepare is not None:
            prepare()
        agents.hand_listener_over(gate, state, "created")
        try:
            steps.take(sync.start_program, state.pid, gate)
            if hooks:
                steps.take(run_poststart_hooks, state, hooks)
        except InitError as error:
            if is_fatal(error):
                _remove(name, state, store)
            raise
        except KernelError:  # init may wait for an agent, and none is there
            _end(state)
            raise
        return state


def _hooks_of(state: State, store: Store) -> Hooks | None:
    """Return its hooks, as they were when it was created."""
    return store.load_config(state.id).hooks if state.has_hooks else None


def kill(name: str, store: Store, number: int, *, everyone: bool = False) -> None:
    """Send a signal to a container's first process, or to all its processes.

    Args:
        everyone: send it to all processes, also in a container that has ended and left some.
            SIGKILL always goes to all of them if they do not end with the first one.
    Raises:
        Conflict: its first process has ended and left none; or the container is still being
            created.
    """
    state = load(store, name)
    if everyone:
        now = status(state, store)
        if now == "creating" or not state.pid:  # the cgroup may be another container's
            raise Conflict(f"container not running: {name} is {now}")
        _signal_all(cgroup_of(state), number)
        return
    pidfd = pidfds.open_same(state.pid, state.pid_started) if state.pid else None
    if pidfd is None:
        if number == signals.SIGKILL and _kill_what_is_left(name, store):
            return
        raise Conflict(f"container not running: {name} is {status(state, store)}")
    try:
        if number == signals.SIGKILL and not _has_own_pids(state):
            _signal_all(cgroup_of(state), number)
        else:
            pidfds.pidfd_send_signal(pidfd, number)
    except KernelError as error:
        if error.errno != errno.ESRCH:
            raise
        raise Conflict(f"container not running: {name} has just ended") from None
    finally:
        posix.close(pidfd)
    if number == signals.SIGKILL and is_frozen(state.freezer):
        cgroup_of(state).thaw()  # on v1 a frozen process dies only when it is thawed


def _has_own_pids(state: State) -> bool:
    """Report whether the container's first process is process 1 of a PID namespace.

    All its processes then end with it. This is not so in a joined PID namespace, as in a pod.
    """
    try:
        status = files.read_file(f"/proc/{state.pid}/status")
    except KernelError:
        return True  # it has ended: there is nothing left to decide
    numbers = status.partition("\nNSpid:")[2].partition("\n")[0].split()
    return numbers[-1:] == ["1"]  # the last number is that in its own namespace


def _kill_what_is_left(name: str, store: Store) -> bool:
    """Kill the processes that outlived the container's first one; report whether there were any.

    With a PID namespace of its own there are none. The state is read again, under the lock, since
    the name may be another container's by now.
    """
    # without a readable state no process can be found
    with store.operating(name), suppress(Conflict):
        state = load(store, name)
        if not state.pid or pidfds.start_time(state.pid) == state.pid_started:
            return False
        if store.load_config(name).new_namespace("pid"):
            return False
        cgroup = cgroup_of(state)
        if cgroup.processes():
            cgroup.kill(_PATIENCE_S)
            return True
    return False


def _signal_all(cgroup: Cgroup, number: int) -> None:
    if number == signals.SIGKILL:
        cgroup.kill(_PATIENCE_S)
        return
    for pid in cgroup.processes():
        with suppress(KernelError):  # it ended meanwhile
            pidfd = pidfds.pidfd_open(pid)
            try:
                # it is still in the group, so the number is not another process's
                if pid in cgroup.processes():
                    pidfds.pidfd_send_signal(pidfd, number)
            finally:
                posix.close(pidfd)


def cgroup_of(state: State) -> Cgroup:
    """Return a container's cgroup, whether it exists or not."""
    from minicontainer.cgroups.cgroup import open_cgroup  # here: not every command needs it

    return open_cgroup(state.cgroup, state.cgroup_manager)


def pause(name: str, store: Store) -> None:
    """Freeze all processes of a container.

    Raises:
        Conflict: it is neither running nor created.
    """
    with _in_state(name, store, ("running", "created"), "pause") as state:
        cgroup_of(state).freeze()


def resume(name: str, store: Store) -> None:
    """Let a paused container continue.

    Raises:
        Conflict: it is not paused.
    """
    with _in_state(name, store, ("paused",), "resume") as state:
        cgroup_of(state).thaw()


@contextmanager
def _in_state(name: str, store: Store, wanted: tuple[str, ...], verb: str) -> Iterator[State]:
    with store.operating(name):
        state = load(store, name)
        now = status(state, store)
        if now not in wanted:
            raise Conflict(f"cannot {verb} container {name}: it is {now}, not {wanted[0]}")
        yield state


def processes(name: str, store: Store) -> tuple[int, ...]:
    """List a container's processes, by their numbers on the host."""
    return cgroup_of(load(store, name)).processes()


def delete(name: str, store: Store, *, force: bool = False) -> None:
    """Remove what is left of a container: processes, cgroup, state.

    Args:
        force: kill it first if it runs; an unknown container is no error.
    Raises:
        NotFound: there is no such container.
        Conflict: it runs, or is being created.
    """
    check_name(name)
    with ExitStack() as stack:
        try:
            _keep_others_away(name, store, stack)
        except NotFound:
            if force:
                return
            raise
        _remove(name, _deletable(name, store, force=force), store)


def _remove(name: str, state: State | None, store: Store) -> None:
    """Remove a container; *state* is None if its file can't be read."""
    if state is not None:
        _end(state)
        cgroupfs = state.cgroup_manager == "cgroupfs"  # systemd makes one around a known process
        ours = bool(state.pid) or (cgroupfs and store.has_config(name))
        _remove_cgroup(state, ours=ours)
    else:
        state = _salvaged(name, store)
        # the number of its process is not known any more, and systemd needs it
        _remove_cgroup(state, ours=store.has_config(name))
    with suppress(Error):  # its config.json may be broken or missing
        if hooks := _hooks_of(state, store):
            steps.take_back(run_poststop_hooks, state, hooks)
    store.forget(name)


def _keep_others_away(name: str, store: Store, stack: ExitStack) -> None:
    """Make other commands wait until *stack* closes; an incomplete container has no lock.

    Raises:
        NotFound: there is no such container, or another command removed it meanwhile.
    """
    if not store.has(name):
        raise unknown(name)
    if store.has_lock(name):
        stack.enter_context(store.operating(name))
    else:
        store.wait_for_claims()
        if store.is_being_created(name):
            raise _being_created(name)


def _being_created(name: str) -> Conflict:
    return Conflict(f"container {name} is being created: wait, and try again")


def _deletable(name: str, store: Store, *, force: bool) -> State | None:
    """Check that a container may be deleted; return its state, or None if that can't be read."""
    state = store.load(name)
    if state is None:
        if store.is_being_created(name):  # and has not written its state yet
            raise _being_created(name)
        if not force:
            load(store, name)  # raises what is wrong with it
        return None
    now = status(state, store)
    if now == "creating":
        raise _being_created(name)
    if now not in ("stopped", "created") and not force:
        raise Conflict(f"cannot delete container {name} that is not stopped: {now}")
    return state


def _salvaged(name: str, store: Store) -> State:
    """Construct a state for a container whose own can't be read: for its cgroup and its hooks."""
    try:
        spec = store.load_config(name)
    except Error:
        return State(id=name, bundle="", cgroup=default_cgroup(name, "cgroupfs"))
    path = spec.linux.cgroups_path
    manager = "systemd" if path and path.count(":") == 2 and path[0] != "/" else "cgroupfs"
    cgroup = path or default_cgroup(name, manager)
    return State(
        id=name,
        bundle="",
        cgroup=cgroup,
        cgroup_manager=manager,
        annotations=spec.annotations,
        has_hooks=True,
    )


def _remove_cgroup(state: State, *, ours: bool) -> None:
    """Remove the cgroup, and its processes if it is known to be the container's.

    A `create` that was killed may have met a cgroup of another container, which is in use. If there
    is a first process of its own, it ends when it finds its parent gone.
    """
    if ours and _removed_as_known(state):
        return
    cgroup = cgroup_of(state)
    if ours:
        cgroup.kill(_PATIENCE_S)
        cgroup.remove()
    # systemd makes a cgroup around a process, and there was none
    elif state.cgroup_manager != "systemd":
        with suppress(Conflict):
            cgroup.remove()


def _removed_as_known(state: State) -> bool:
    """Remove a cgroup without processes at its known directory; report whether it is gone.

    So most calls of `delete` need not find out what is mounted, nor import the code for limits: 2
    ms.
    """
    if state.cgroup_manager != "cgroupfs":
        return False
    from minicontainer.cgroups import directories  # here: not every command needs it

    made = [path.removesuffix("/tasks") for path in (*state.tasks, state.unified) if path]
    return bool(made) and directories.remove_empty(
        (directory.removesuffix(state.cgroup) for directory in made), state.cgroup
    )


def _end(state: State) -> None:
    """Kill the first process, and wait until it is gone."""
    pidfd = pidfds.open_same(state.pid, state.pid_started) if state.pid else None
    if pidfd is None:
        return
    try:
        with suppress(KernelError):  # ESRCH: it ended by itself
            pidfds.pidfd_send_signal(pidfd, signals.SIGKILL)
        if is_frozen(state.freezer):
            cgroup_of(state).thaw()
        if not pidfds.wait_gone(pidfd, _PATIENCE_S):
            raise Conflict(f"container {state.id}: its process {state.pid} does not end")
    finally:
        posix.close(pidfd)
