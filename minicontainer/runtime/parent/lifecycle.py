"""A container's life from outside: create, start, wait, kill, delete.

The parent makes everything that outlives the child: the name, the cgroup. One `ExitStack` undoes it
when a step fails. What the child makes in its own namespaces ends with the child.

See: runtime-spec runtime.md "Lifecycle"; the child's side is `init`.
"""

from __future__ import annotations

import os
import time

from minicontainer import steps
from minicontainer.cgroups.cgroup import open_cgroup, open_scope
from minicontainer.contexts import ExitStack, suppress
from minicontainer.errors import InitError, KernelError
from minicontainer.kernel import namespaces, pidfds, seccomp, signals
from minicontainer.runtime import inputs
from minicontainer.runtime.child import devices
from minicontainer.runtime.child.attributes import set_oom_score
from minicontainer.runtime.config.defaults import DENY_ALL_DEVICES, DEVICE_RULES
from minicontainer.runtime.config.spec import Hooks
from minicontainer.runtime.container.state import State, default_cgroup
from minicontainer.runtime.gate import make_gate
from minicontainer.runtime.hooks import (
    run_poststart_hooks,
    run_poststop_hooks,
    run_runtime_hooks,
)
from minicontainer.runtime.inputs import Options
from minicontainer.runtime.mounts import binds
from minicontainer.runtime.parent.agents import find_agent, hand_listener_over, send_listener
from minicontainer.runtime.parent.foreground import Running
from minicontainer.runtime.parent.host_mounts import copy_host_mounts
from minicontainer.runtime.parent.spawn import fork_init, set_time_offsets
from minicontainer.runtime.preload import preload
from minicontainer.runtime.sync import (
    Mounted,
    Ready,
    channel_pair,
    go,
    let_wait,
    next_message,
    start_program,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.cgroups.cgroup import Cgroup
    from minicontainer.cgroups.systemd import SystemdCgroup
    from minicontainer.kernel.seccomp import Seccomp
    from minicontainer.record import Record
    from minicontainer.runtime.config.spec import Bundle, Spec
    from minicontainer.runtime.config.spec_linux import Linux
    from minicontainer.runtime.container.state import Store
    from minicontainer.runtime.sync import Channel


class Container(Running):
    """A container that this process created and holds.

    Args:
        state: as saved; its first process is in it.
        pidfd: of the first process.
        channel: to that process, until its program runs.
        cgroup: the container's cgroup.
        undo: what `delete` undoes.
        hooks: those of its specification.
        claim: the descriptor of its directory, which is locked.
        settle: gets that when the program runs: from then on the container counts as made.
    """

    def __init__(
        self,
        state: State,
        pidfd: int,
        channel: Channel,
        cgroup: Cgroup,
        undo: ExitStack,
        hooks: Hooks,
        claim: int,
        settle: Callable[[int], None],
    ) -> None:
        super().__init__(state.pid, pidfd)
        self.state = state
        self.cgroup = cgroup
        self._channel = channel
        self._undo = undo
        self._hooks = hooks
        self.claim = claim
        self._settle = settle

    def start(self) -> None:
        """Let the program run; return when execve(2) has happened.

        Raises:
            InitError: the program could not be started, or a hook failed.
        """
        hand_listener_over(self._channel, self.state, "created")
        steps.take(start_program, self.pid, self._channel)
        self._settle(self.claim)
        if self._hooks.poststart:
            steps.take(run_poststart_hooks, self.state, self._hooks)

    def delete(self) -> None:
        """Undo everything that was made for the container: processes, cgroup, name."""
        self._undo.close()

    def leave(self) -> None:
        """Leave the container running without this process; `operations` finds it by its state."""
        self._channel.close()
        os.close(self.pidfd)


def create_container(
    name: str,
    bundle: Bundle,
    store: Store,
    options: Options = inputs.DEFAULTS,
) -> Container:
    """Bring a container to `created`: isolated, set up, waiting for `start`.

    Args:
        name: the container's name, which must be free in *store*.
        bundle: read and checked.
        store: the directory of states and of compiled filters.
        options: how the first process is started.
    Raises:
        Conflict: the name is taken.
        InitError: a step failed inside the container;  KernelError: outside. Nothing is left
            behind.
    """
    with ExitStack() as undo:
        claim = steps.take(reserve_name, name, store, undo)
        if options.notifies:
            bundle = steps.take(offer_notify_socket, bundle, store.directory(name))
        spec, manager = bundle.spec, options.cgroup_manager
        path = spec.linux.cgroups_path or default_cgroup(name, manager)
        scope = open_scope(path) if manager == "systemd" else None
        cgroup = scope or open_cgroup(path, manager)
        state = store.save(creating(name, bundle, cgroup, options))
        # not later: a fault in the profile is found while nothing needs an undo
        profile = spec.linux.seccomp
        seccomp_filter = steps.take(compile_filter, profile, store) if profile else b""
        if spec.hooks.poststop:
            undo.callback(
                while_claimed, claim, steps.take_back, run_poststop_hooks, state, spec.hooks
            )
        steps.take(create_cgroup, cgroup, spec, undo, claim)
        # not earlier: if this file is there, `delete --force` knows that the cgroup is the
        # container's own
        store.write(name, "config.json", bundle.text)
        ours, theirs = channel_pair()
        undo.callback(ours.close)
        undo.callback(theirs.close)  # closed long before the undo, unless a step fails
        child = _prepare_init(bundle, state, cgroup, theirs, seccomp_filter, store, options, undo)
        pid, pidfd = steps.take(fork_init, child, ours, cgroup)
        undo.callback(os.close, pidfd)
        undo.callback(steps.take_back, end_init, pid, pidfd)
        child.close()
        if scope is not None:
            # systemd makes the cgroup only now: until then, `delete` kills init by its number
            state = store.save(forked(state, pid, cgroup))
            steps.take(adopt_init, pid, scope, spec)
        _set_up_from_outside(pid, cgroup, spec, undo, ours if child.waits else None)
        if scope is None:
            # Init works meanwhile. If this process is killed before the state is saved, init ends
            # when it finds the channel closed; or it waits at the gate, if it had reported, and is
            # in the cgroup then, which `delete --force` empties.
            state = store.save(forked(state, pid, cgroup))
        if options.meanwhile:
            options.meanwhile(cgroup)
        _let_set_up(ours, state, spec)
        return Container(
            state, pidfd, ours, cgroup, undo.pop_all(), spec.hooks, claim, store.settle
        )


def _waits(spec: Spec, options: Options) -> bool:
    """Report whether init must wait for `_set_up_from_outside`, for its cgroup, or for a joiner.

    Otherwise it begins at once: by the time that the parent has come back from clone3(2), it can be
    half a millisecond ahead.
    """
    return (
        options.cgroup_manager == "systemd"
        or spec.process.oom_score_adj is not None
        or bool(spec.linux.net_devices)
        or any(one.path or one.type in ("user", "time") for one in spec.linux.namespaces)
    )


def _set_up_from_outside(
    pid: int, cgroup: Cgroup, spec: Spec, undo: ExitStack, channel: Channel | None
) -> None:
    """Do what init cannot do from inside its own namespaces, while it waits; let it begin.

    Args:
        channel: to init; None if it does not wait (`_waits`).
    """
    if (owner := _owner_of_cgroup(spec)) is not None:
        steps.take(give_cgroup, cgroup, *owner)
    if spec.new_namespace("user"):
        steps.take(write_id_maps, pid, spec.linux)
    if spec.process.oom_score_adj is not None:
        steps.take(set_oom_score, str(pid), spec.process.oom_score_adj)
    if spec.linux.net_devices:
        steps.take(move_net_devices, pid, spec.linux, undo)
    if channel:
        go(channel)


def _let_set_up(channel: Channel, state: State, spec: Spec) -> None:
    """Do what init's recipe needs from this process on the way to the program."""
    hand_listener_over(channel, state, "creating")
    if spec.hooks.prestart or spec.hooks.create_runtime:
        wait_for(Mounted, channel, state.pid)
        steps.take(run_runtime_hooks, state, spec.hooks)
        go(channel)
    wait_for(Ready, channel, state.pid)
    if steps.held():
        let_wait(channel, state.pid)
    profile = spec.linux.seccomp
    if profile and spec.process.no_new_privileges and seccomp.has_listener(profile):
        steps.take(find_agent, profile)


def creating(
    name: str, bundle: Bundle, cgroup: Cgroup, options: Options = inputs.DEFAULTS
) -> State:
    """Give the first state of a container, which has no process yet."""
    now = time.time_ns()
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
    return State(
        id=name,
        bundle=bundle.path,
        rootfs=bundle.rootfs,
        cgroup=cgroup.path,
        cgroup_manager=options.cgroup_manager,
        freezer=cgroup.freezer(),
        created=f"{seconds}.{now % 10**9:09}Z",
        annotations=bundle.spec.annotations,
        has_hooks=bundle.spec.hooks != Hooks(),
        new_keyring=options.new_keyring,
    )


def _prepare_init(
    bundle: Bundle,
    state: State,
    cgroup: Cgroup,
    channel: Channel,
    seccomp_filter: bytes,
    store: Store,
    options: Options,
    undo: ExitStack,
) -> inputs.Init:
    """Collect what the first process cannot get for itself; it inherits this at the fork."""
    spec = bundle.spec
    copies = {}
    if any(binds.comes_from_the_host(mount, spec) for mount in spec.mounts):
        copies = steps.take(copy_host_mounts, bundle, undo)
    nodes: dict[str, int] = {}
    if devices.for_the_host(spec):
        nodes = steps.take(make_device_nodes, spec, f"{store.directory(state.id)}/devices", undo)
    preload(spec)
    return inputs.Init(
        bundle,
        state,
        channel,
        cgroup.mounts(),
        seccomp_filter=seccomp_filter,
        options=options,
        gate=_make_gate(store.directory(state.id), undo) if options.gated else None,
        copies=copies,
        nodes=nodes,
        tasks_files=cgroup.tasks_files(),
        waits=_waits(spec, options),
    )


def make_device_nodes(spec: Spec, directory: str, undo: ExitStack) -> dict[str, int]:
    """Make the listed devices, which a user namespace forbids, as mounts for init to attach."""
    return devices.make_for_user_namespace(spec, directory, undo)


def forked(state: State, pid: int, cgroup: Cgroup) -> State:
    """Add the first process to a container's state."""
    return state.replace(
        pid=pid,
        pid_started=pidfds.start_time(pid) or 0,
        tasks=cgroup.tasks_paths(),
        unified=cgroup.unified_path(),
    )


def _make_gate(directory: str, undo: ExitStack) -> Channel:
    """Make the gate at which init waits; this process closes its copy, which would keep it open."""
    gate = make_gate(directory)
    undo.callback(gate.close)
    return gate


def reserve_name(name: str, store: Store, undo: ExitStack) -> int:
    """Claim the container's name by making its directory: mkdir(2) succeeds for one caller only."""
    # The lock is released last: until the name is free, nobody may take the container for
    # abandoned.
    claim = store.reserve(name)
    undo.callback(os.close, claim)
    undo.callback(while_claimed, claim, store.forget, name)
    return claim


def while_claimed(claim: int, act: Callable[..., object], *args: object) -> None:
    """Undo something, unless `delete --force` has done so: the name may be another container's by
    now.
    """
    if os.fstat(claim).st_nlink:
        act(*args)


def offer_notify_socket(bundle: Bundle, directory: str) -> Bundle:
    """Give the program a place for its notify socket; `start` makes the socket there."""
    from minicontainer.runtime.parent import notify  # few containers are services

    return notify.offered(bundle, directory)


def create_cgroup(cgroup: Cgroup, spec: Spec, undo: ExitStack, claim: int) -> None:
    """Make the container's cgroup and set its limits, before any process is in it."""
    cgroup.create()
    undo.callback(while_claimed, claim, steps.take_back, remove_cgroup, cgroup)
    resources = spec.linux.resources
    cgroup.limit(resources.as_of(spec.oci_version))
    cgroup.allow_devices((DENY_ALL_DEVICES, *resources.devices, *DEVICE_RULES))
    undo.callback(while_claimed, claim, steps.take_back, end_processes, cgroup)


def adopt_init(pid: int, scope: SystemdCgroup, spec: Spec) -> None:
    """Let systemd make the cgroup around the first process, which waits, with all limits."""
    scope.adopt(pid, spec.annotations)


def _owner_of_cgroup(spec: Spec) -> tuple[int, int] | None:
    """Return the host's ids of the container's root, if that root may divide its cgroup."""
    if not (spec.new_namespace("user") and spec.new_namespace("cgroup")):
        return None
    if not any(mount.type == "cgroup" and "ro" not in mount.options for mount in spec.mounts):
        return None
    uid = namespaces.host_id(spec.linux.uid_mappings, 0)
    gid = namespaces.host_id(spec.linux.gid_mappings, 0)
    return None if uid is None or gid is None else (uid, gid)


def give_cgroup(cgroup: Cgroup, uid: int, gid: int) -> None:
    """Give the cgroup to the container's root, for whom it is mounted writable (v2)."""
    cgroup.give_to(uid, gid)


def compile_filter(profile: Seccomp, store: Store) -> bytes:
    """Compile the seccomp profile to BPF, or read the filter compiled at an earlier start."""
    seccomp.filter_flags(profile)  # raises what is wrong with the flags
    return seccomp.cached_program(profile, os.path.join(store.root, ".filters"))


def end_init(pid: int, pidfd: int) -> None:
    """Kill the first process, if it still runs, and reap it.

    The kill goes by pidfd, opened at the fork: another process may have the number by now.
    """
    with suppress(KernelError):
        pidfds.pidfd_send_signal(pidfd, signals.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def end_processes(cgroup: Cgroup) -> None:
    """Kill the processes that are left in the cgroup.

    Without a PID namespace of its own, a container's processes outlive its first one.
    """
    cgroup.kill()


def remove_cgroup(cgroup: Cgroup) -> None:
    """Remove the cgroup, and with it the limits."""
    cgroup.remove()


def write_id_maps(pid: int, linux: Linux) -> None:
    """Write the id maps of the new user namespace: only a process outside may map other ids."""
    namespaces.write_id_maps(pid, linux.uid_mappings, linux.gid_mappings)


def move_net_devices(pid: int, linux: Linux, undo: ExitStack) -> None:
    """Move interfaces of the host into the container, before init looks at its network."""
    from minicontainer.runtime.parent import net_devices  # few containers get any

    net_devices.move_in(pid, linux.net_devices, undo)


def wait_for(kind: type[Record], channel: Channel, pid: int) -> None:
    """Wait for init's next message, passing its events on; raise the failure that it reports."""
    if not isinstance(next_message(channel, pid), kind):
        raise InitError("the container's first process broke the protocol")


# The parent's steps, in the order of a container's life, and why each stands where it does. This
# table is not run: most steps have arguments and results of their own, so `create_container`,
# `Container.start` and the undo take them. `learn.explain` and the tables of architecture.md read
# it, and tests/learn/test_explain.py compares it with a real start.
STEPS: dict[Callable[..., object], str] = {
    reserve_name: "first: `mkdir` succeeds for one caller only",
    offer_notify_socket: "if NOTIFY_SOCKET is set: before the mounts, of which the socket's is one",
    compile_filter: "a fault in the seccomp profile is found while nothing needs an undo",
    create_cgroup: "with its limits, before it has a process",
    copy_host_mounts: "only the host's root may copy these: id-mapped mounts; binds for a user "
    "namespace, which finds the host's mounts locked",
    make_device_nodes: "the listed devices; in a user namespace nobody may make one",
    fork_init: "`clone3` makes all namespaces at once: at no moment has the child only some",
    set_time_offsets: "by the joiner in `fork-init`: while no process is in the time namespace",
    adopt_init: "with `--systemd-cgroup`: systemd makes a scope around a process that exists",
    give_cgroup: "to root of a user namespace, if it has the cgroup mounted for writing (v2)",
    write_id_maps: "only a process outside of the namespace may map ids other than its own",
    set_oom_score: "inside a user namespace nobody may lower it, and init hides its `/proc`",
    move_net_devices: "while init waits: it finds its network complete",
    run_runtime_hooks: "the host's programs, in its namespaces: the root is still the host's",
    find_agent: "for a filter with SCMP_ACT_NOTIFY that is loaded last: a missing agent then fails "
    "`create` and not `start`; after the hooks, which may have started it",
    send_listener: "of a filter with SCMP_ACT_NOTIFY, when init loads it",
    start_program: "init waits for this message before `execve`",
    run_poststart_hooks: "the program runs, and `start` has not returned",
    # from here on, the undo: when the container is deleted, or when a step above has failed
    end_init: "kills the first process, if it still runs",
    end_processes: "and the processes of the cgroup that are not in its PID namespace",
    remove_cgroup: "it is empty now",
    run_poststop_hooks: "only the name is left",
}
