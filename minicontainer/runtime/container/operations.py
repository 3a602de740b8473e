"""Containers that exist, found by their state: status, start, kill, delete, pause, resume.

Whoever created the container is gone; what it is now is asked of the kernel, never believed from a
file. Commands that change a container hold its lock, so that they follow one another.

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
from minicontainer.runtime.hooks import is_fatal, run_poststart_hooks, run_poststop_hooks
from minicontainer.runtime.parent import agents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minicontainer.cgroups.cgroup import Cgroup
    from minicontainer.runtime.config.spec import Hooks
    from minicontainer.runtime.container.state import Store

_PATIENCE_S = 10  # for processes that were killed to be gone


def load(store: Store, name: str) -> State:
    """Read a container's state.

    Raises:
        NotFound: there is no such container.
        Conflict: what is kept of it is not whole.
    """
    check_name(name)
    state = store.load(name)
    if state is not None:
        return state
    if not store.has(name):
        raise unknown(name)
    raise Conflict(
        f"container {name}: its state in {store.directory(name)} is not whole: "
        "remove it with `delete --force`"
    )


def status(state: State, store: Store) -> str:
    """Say where a container is in its life: creating, created, running, paused or stopped."""
    if state.pid and pidfds.start_time(state.pid) != state.pid_started:
        return "stopped"
    # first of all: until its creator says so its root may be the host's, and nobody's to enter
    if store.is_being_created(state.id):
        return "creating"
    if not state.pid:
        return "stopped"
    if is_frozen(state.freezer):
        return "paused"
    gate = sync.open_gate(store.directory(state.id))
    if gate is None:
        return "running"
    gate.close()
    return "created"


def start(name: str, store: Store, prepare: Callable[[], object] | None = None) -> State:
    """Let a created container's program run; return when execve(2) has happened.

    Args:
        prepare: called when it is certain that there is a program to start.
    Raises:
        Conflict: it is not `created`: started already, paused, or ended.
        InitError: the program could not be started; or a hook failed, and the container is gone.
    """
    with store.operating(name):
        state = load(store, name)
        gate = sync.open_gate(store.directory(name))
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
        except KernelError:  # nobody answers what init may be waiting for
            _end(state)
            raise
        return state


def _hooks_of(state: State, store: Store) -> Hooks | None:
    """Give its hooks, as they were when it was created."""
    return store.load_config(state.id).hooks if state.has_hooks else None


def kill(name: str, store: Store, number: int, *, everyone: bool = False) -> None:
    """Send a signal to a container's first process, or to all its processes.

    Args:
        everyone: all; also of a container that has ended, which may have left some. SIGKILL goes
            to all where they don't end with the first one.
    Raises:
        Conflict: its first process has ended, and left none; or it is not made yet.
    """
    state = load(store, name)
    if everyone:
        now = status(state, store)
        if now == "creating" or not state.pid:  # the cgroup may turn out to be another's
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
        cgroup_of(state).thaw()  # on v1 a frozen process dies only then


def _has_own_pids(state: State) -> bool:
    """Say whether its processes end with its first one: that is process 1 of their namespace.

    Not in one that it joined, as containers of a pod do.
    """
    try:
        status = files.read_file(f"/proc/{state.pid}/status")
    except KernelError:
        return True  # it has ended: nothing is left to decide
    numbers = status.partition("\nNSpid:")[2].partition("\n")[0].split()
    return numbers[-1:] == ["1"]  # the last one is its own namespace's


def _kill_what_is_left(name: str, store: Store) -> bool:
    """Kill the processes of a container that live on after its first one; say whether there were.

    In a PID namespace of its own there are none. Looked at once more, alone: the name may be
    another container's by now.
    """
    with store.operating(name), suppress(Conflict):  # what is broken has left none to be found
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
                if pid in cgroup.processes():  # still the group's, and not another with its number
                    pidfds.pidfd_send_signal(pidfd, number)
            finally:
                posix.close(pidfd)


def cgroup_of(state: State) -> Cgroup:
    """Take hold of a container's cgroup, whether it is still there or not."""
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
    """Let a paused container run on.

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
        force: kill it first if it runs; and one that is unknown is no error.
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
    """Remove a container; *state* is None where its own is broken."""
    if state is not None:
        _end(state)
        cgroupfs = state.cgroup_manager == "cgroupfs"  # systemd makes one around a known process
        ours = bool(state.pid) or (cgroupfs and store.has_config(name))
        _remove_cgroup(state, ours=ours)
    else:
        state = _salvaged(name, store)
        # a process it may have had is not known any more, with systemd neither
        _remove_cgroup(state, ours=store.has_config(name))
    with suppress(Error):  # its config.json may be broken, or was never written
        if hooks := _hooks_of(state, store):
            steps.take(run_poststop_hooks, state, hooks)
    store.forget(name)


def _keep_others_away(name: str, store: Store, stack: ExitStack) -> None:
    """Make other commands wait, until *stack* closes; a container that is not whole has no lock.

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
    """Check that a container may be deleted; give its state, None where that is broken."""
    state = store.load(name)
    if state is None:
        if store.is_being_created(name):  # and has not come to writing it
            raise _being_created(name)
        if not force:
            load(store, name)  # says what is wrong
        return None
    now = status(state, store)
    if now == "creating":
        raise _being_created(name)
    if now not in ("stopped", "created") and not force:
        raise Conflict(f"cannot delete container {name} that is not stopped: {now}")
    return state


def _salvaged(name: str, store: Store) -> State:
    """Make up the state of a container whose own is broken: for its cgroup and its hooks."""
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
    """Remove the cgroup, with the processes in it if it is known to be the container's.

    A create that was killed may have found one that is another's, and busy. Its own first process,
    if it had come that far, ends when it finds its parent gone.
    """
    if ours and _removed_as_known(state):
        return
    cgroup = cgroup_of(state)
    if ours:
        cgroup.kill(_PATIENCE_S)
        cgroup.remove()
    elif state.cgroup_manager != "systemd":  # it makes one around a process: there was none
        with suppress(Conflict):
            cgroup.remove()


def _removed_as_known(state: State) -> bool:
    """Remove a cgroup that nobody is in any more from where it was made; say whether it is gone.

    So most `delete` need not look at what is mounted, nor import who knows about limits: 2 ms.
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
