"""exec: another program in a container that runs.

A joiner joins the container's namespaces, by a pidfd of its first process that was opened before
any check. It then forks the program as this process's own child: setns(2) moves only children into
another PID namespace, and only a parent can wait for the program. The steps are those of the
container's first program, without those that make what exists already.

    exec            joiner                      program
     │ fork ────────► │ setns: all namespaces     │
     │                │ clone3 (CLONE_PARENT) ──► │ waits
     │ ◄──── Forked   │                           │
     │                │ ends                      │
     │ Go ──────────────────────────────────────► │ follows RECIPE
     │ ◄──────────────────────────────── Leaving  │ execve
     │ ◄───────────────────────────────(closed)   │

`sync` explains the messages. See: setns(2), pid_namespaces(7); runc(8) "exec"; CVE-2016-9962,
CVE-2022-29162.
"""

from __future__ import annotations

import os

from minicontainer import steps
from minicontainer.cgroups.freezer import is_frozen
from minicontainer.contexts import ExitStack, suppress
from minicontainer.errors import Conflict, InitError, KernelError
from minicontainer.kernel import files, namespaces, pidfds, signals
from minicontainer.kernel.namespaces import BY_TYPE, NAMESPACES
from minicontainer.runtime import inputs, sync
from minicontainer.runtime.child import attributes, init, privileges, rlimits, rootfs, streams
from minicontainer.runtime.container import operations
from minicontainer.runtime.parent import agents
from minicontainer.runtime.parent.foreground import Running
from minicontainer.runtime.parent.lifecycle import compile_filter, end_init
from minicontainer.runtime.parent.spawn import fork_by_joiner
from minicontainer.runtime.preload import forbid_imports, preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from minicontainer.runtime.child.init import Recipe
    from minicontainer.runtime.config.spec import Bundle
    from minicontainer.runtime.container.state import State, Store

_RUNNING = ("running", "created")
# The namespaces that a process makes or joins once it is in the container's cgroup.
_INNER = [row.type for row in NAMESPACES if row.made == "inside"]


def hold(name: str, store: Store, undo: ExitStack, *, paused: bool = False) -> tuple[State, int]:
    """Find a container that can start another program.

    Args:
        paused: accept a paused one; the program then waits until it is resumed, and so does the
            caller.
    Returns:
        Its state, and a pidfd of its first process.
    Raises:
        Conflict: it does not run.
    """
    state = operations.load(store, name)
    pidfd = pidfds.open_same(state.pid, state.pid_started) if state.pid else None
    now = operations.status(state, store)
    if pidfd is not None:
        undo.callback(os.close, pidfd)
    if pidfd is None or now not in (*_RUNNING, *(("paused",) if paused else ())):
        raise _not_in(now, name)
    return state, pidfd


def _not_in(now: str, name: str) -> Conflict:
    return Conflict(f"cannot exec in a {now} container: {name}")


def start_exec(
    state: State,
    pidfd: int,
    bundle: Bundle,
    store: Store,
    options: inputs.Options,
    sub_groups: Mapping[str, str] | None = None,
) -> Running:
    """Start a program in a container; return when execve(2) has happened.

    Args:
        state, pidfd: as `hold` returned them.
        bundle: the container's specification, with the new program as its process.
        options: how the program is started.
        sub_groups: cgroups below the container's own, by v1 controller; "" for all controllers.
    Raises:
        InitError: the program could not be started.
        Conflict: the container has ended meanwhile.
    """
    try:
        return _start_exec(state, pidfd, bundle, store, options, sub_groups or {})
    except (InitError, OSError):
        # the container is going away, so the failed step does not matter
        if pidfds.wait_gone(pidfd, 0):
            raise _not_in("stopped", state.id) from None
        raise


def _start_exec(
    state: State,
    pidfd: int,
    bundle: Bundle,
    store: Store,
    options: inputs.Options,
    sub_groups: Mapping[str, str],
) -> Running:
    spec = bundle.spec
    preload(spec)
    with ExitStack() as undo:
        seccomp_filter = compile_filter(spec.linux.seccomp, store) if spec.linux.seccomp else b""
        ours, theirs = sync.channel_pair()
        undo.callback(ours.close)
        undo.callback(theirs.close)
        child = inputs.Init(
            bundle, state, theirs, (), seccomp_filter=seccomp_filter, options=options,
            tasks_files=_open_tasks(state, sub_groups),
        )  # fmt: skip
        if streams.has_null():
            child.null_fd = steps.take(open_host_null)
            undo.callback(os.close, child.null_fd)
        undo.callback(child.close)
        group_fd = _open_group(state, sub_groups.get("", ""))
        if group_fd is not None:
            undo.callback(os.close, group_fd)
        rows = [row for row in NAMESPACES if spec.has_namespace(row.type)]
        flags = sum(row.flag for row in rows if row.made != "inside")
        if any(row.made == "inside" for row in rows):
            child.pidfd = pidfd  # for `join_inner_namespaces`
        pid, program_pidfd = steps.take(
            enter_namespaces, child, ours, lambda: _join(child, pidfd, flags), group_fd
        )
        with ExitStack() as half_made:
            half_made.callback(os.close, program_pidfd)
            half_made.callback(end, state, pid, program_pidfd)
            child.close()
            agents.hand_listener_over(ours, state, "running")
            sync.go(ours)  # not earlier: the program could send something before its joiner has
            sync.wait_for_program(pid, ours)
            half_made.pop_all()
        return Running(pid, program_pidfd)


def end(state: State, pid: int, pidfd: int) -> None:
    """Kill a program that this process started, and wait for its end.

    In a paused container it does not wait: on v1 the program dies when the container is resumed.
    """
    if not is_frozen(state.freezer):
        end_init(pid, pidfd)
        return
    with suppress(KernelError):  # ESRCH: it has ended
        pidfds.pidfd_send_signal(pidfd, signals.SIGKILL)


def open_host_null() -> int:
    """Open the host's null device for the program's streams: inside, it can't be reached."""
    return streams.open_spare()


def enter_namespaces(
    child: inputs.Init, ours: sync.Channel, join: Callable[[], None], group_fd: int | None
) -> tuple[int, int]:
    """Fork the program's process into the container's namespaces, by a joiner that enters them.

    Joining changes a process for good, and setns(2) moves only the children of a process into a PID
    namespace. So a process is forked that joins, forks the program as its parent's child, and ends.
    """
    return fork_by_joiner(child, ours, join, 0, group_fd, RECIPE)


def _join(child: inputs.Init, pidfd: int, flags: int) -> None:
    if child.spec.process.exec_cpu_affinity:
        steps.take(attributes.set_initial_affinity, child)
    forbid_imports()  # setns(2) changes the root: from here on the files are the container's
    try:
        namespaces.join_process(pidfd, flags, child.state.pid)
    except KernelError as error:
        raise InitError(f"the container's namespaces can't be joined: {error}") from None


def _open_tasks(state: State, sub_groups: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    """Open the files by which a process joins the container's v1 cgroups."""
    found = []
    everywhere = sub_groups.get("", "")
    named = {controller: group for controller, group in sub_groups.items() if controller}
    moved = _by_hierarchy(named) if named else {}
    for path in state.tasks:
        directory, _, name = path.rpartition("/")
        directory = _below(directory, moved.get(directory.removesuffix(state.cgroup), everywhere))
        found.append((f"{directory}/{name}", files.open_for_writing(f"{directory}/{name}")))
    return tuple(found)


def _by_hierarchy(sub_groups: Mapping[str, str]) -> dict[str, str]:
    """Return the groups by the mount point of their v1 controller; several may share it."""
    from minicontainer.cgroups import hierarchies  # few calls name any

    places = {
        name: hierarchy.mount_point
        for hierarchy in hierarchies.mounted().v1
        for name in hierarchy.controllers
    }
    found: dict[str, str] = {}
    for name, group in sub_groups.items():
        if name not in places:
            raise Conflict(f"--cgroup {name}:…: cgroup v1 has no controller {name} here")
        if found.setdefault(places[name], group) != group:
            raise Conflict(
                f"--cgroup {name}:{group}: {places[name]} also has controllers "
                "that are to be in another group"
            )
    return found


def _open_group(state: State, sub_group: str) -> int | None:
    """Open the v2 cgroup that the program is forked into.

    It is the container's; or the cgroup of its first process, if systemd in the container has
    divided the group: a group that passes controllers on can't have processes.
    """
    if not state.unified:
        return None
    directory = _below(state.unified, sub_group)
    if not sub_group and files.read_file(f"{directory}/cgroup.subtree_control").strip():
        mount_point = state.unified.removesuffix(state.cgroup)
        for line in files.read_file(f"/proc/{state.pid}/cgroup").splitlines():
            if line.startswith("0::"):
                directory = mount_point + line[3:]
    return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _below(directory: str, sub_group: str) -> str:
    """Return the path of a group below *directory*."""
    if ".." in sub_group.split("/"):
        raise Conflict(f"--cgroup {sub_group}: must be below the container's own")
    found = os.path.join(directory, sub_group.strip("/")) if sub_group else directory
    if not os.path.isdir(found):
        raise Conflict(f"--cgroup {sub_group}: the container has no such cgroup")
    return found


# --- the steps that differ from those of the container's own program -----------------------------


@steps.needed_if(lambda spec: any(map(spec.has_namespace, _INNER)))
def join_inner_namespaces(init: inputs.Init) -> None:
    """Join the cgroup namespace, so that its root is the root of the cgroups that this process
    sees.

    This comes after the move into the container's cgroup. If v2 is mounted with `nsdelegate`, as by
    systemd, a process of that namespace can't be moved or forked into the cgroup from outside.
    See: cgroup-v2.rst "Delegation Containment".
    """
    kinds = filter(init.spec.has_namespace, _INNER)
    namespaces.join_process(init.pidfd, sum(BY_TYPE[kind].flag for kind in kinds))
    os.close(init.pidfd)


def open_root(init: inputs.Init) -> None:
    """Open the root, which is the container's: setns(2) changed it."""
    init.root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


@steps.needed_if(lambda spec: spec.process.terminal)
def open_own_terminal(init: inputs.Init) -> None:
    """Open a pseudo-terminal from the container's devpts, for this program alone."""
    from minicontainer.runtime.child import console  # see `preload`

    console.open_for(init.root_fd, init.options, init.spec.process, shown=False)


def settle_own_streams(init: inputs.Init) -> None:
    """Make the standard streams the container's own, as for its first program."""
    streams.replace_null(init.root_fd, lambda: os.dup(init.null_fd))
    if init.null_fd >= 0:
        os.close(init.null_fd)
    streams.give_pipes(init.spec.process.user.uid, os.fstat(init.channel.reads).st_dev)


# The steps and their order are those of `init.RECIPE`. A step without a reason has the same reason
# as there.
RECIPE: Recipe = {
    init.join_cgroups: "",
    join_inner_namespaces: "not by the joiner: from inside that namespace it could not fork "
    "into the cgroup, if v2 is mounted with `nsdelegate`",
    attributes.set_final_affinity: "in the cgroup, whose cpuset may change the processors; "
    "`set-initial-affinity` was before, by the joiner",
    init.reset_signals: "",
    init.forbid_tracing: "",
    init.become_root_inside: "",
    init.start_session: "",
    attributes.join_keyring: "",
    rlimits.set_rlimits: "",
    open_root: "the root is the container's since the joiner's `setns`",
    open_own_terminal: "from the container's devpts, but not as its `/dev/console`",
    settle_own_streams: "with the null device that the command opened on the host",
    rootfs.change_directory: "an existing one: `exec` changes nothing in the container",
    init.find_home: "",
    init.find_program: "",
    attributes.set_scheduler: "",
    attributes.set_io_priority: "",
    attributes.set_memory_policy: "",
    attributes.set_personality: "",
    attributes.set_labels: "",
    privileges.set_umask: "",
    privileges.forbid_new_privileges: "",
    privileges.filter_if_privileged: "",
    privileges.drop_bounding_set: "",
    privileges.become_user: "",
    privileges.set_capabilities: "",
    rlimits.set_last_rlimits: "",
    init.announce_program: "",
    privileges.filter_if_unprivileged: "",
    init.run_program: "",
}
