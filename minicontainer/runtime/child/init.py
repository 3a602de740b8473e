"""The container's first process: the recipe from fork to exec.

RECIPE, below, is what a container is. The parent (`lifecycle`) has forked this process into its
namespaces and its cgroup. Here the process mounts its file system, gives up every right that the
program must not have, and becomes the program. Nothing of this needs an undo: mounts, ids,
capabilities and filters end with the process.

See: namespaces(7), pivot_root(2), capabilities(7), seccomp(2); runtime-spec runtime.md "Lifecycle".
"""

from __future__ import annotations

import gc
import os

from minicontainer import steps
from minicontainer.contexts import suppress
from minicontainer.kernel import (
    files,
    interfaces,
    namespaces,
    process,
    signals,
)
from minicontainer.runtime.child import programs, reaper
from minicontainer.runtime.child.attributes import (
    join_keyring,
    reset_affinity,
    set_io_priority,
    set_labels,
    set_memory_policy,
    set_personality,
    set_scheduler,
    set_sysctls,
)
from minicontainer.runtime.child.privileges import (
    become_user,
    drop_bounding_set,
    filter_if_privileged,
    filter_if_unprivileged,
    forbid_new_privileges,
    set_capabilities,
    set_umask,
)
from minicontainer.runtime.child.rlimits import set_last_rlimits, set_rlimits
from minicontainer.runtime.child.rootfs import (
    enter_directory,
    enter_rootfs,
    isolate_mounts,
    make_devices,
    make_rootfs_readonly,
    mount_filesystems,
    mount_rootfs,
    open_terminal,
    protect_paths,
    settle_streams,
    spread_mounts,
)
from minicontainer.runtime.hooks import (
    run_create_container_hooks,
    run_start_container_hooks,
    wait_for_runtime_hooks,
)
from minicontainer.runtime.inputs import WANTS_REAPER
from minicontainer.runtime.sync import Go, Leaving, Ready, Start, failure, pass_events_on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from minicontainer.runtime.inputs import Init

    Recipe = dict[Callable[[Init], None], str]  # each step, and why it stands there

EXIT_NOT_STARTED = 125


# --- the steps, in their order -----------------------------------------------------------------


def join_cgroups(init: Init) -> None:
    """Move into the container's v1 cgroups, through files that the parent opened.

    This is the first step, so that the limits cover every later one. On v2, clone3(2) did it. The
    process moves itself, because the kernel moves the calling thread at once: writing another
    process to cgroup.procs takes 5 to 20 ms.
    """
    for path, tasks_fd in init.tasks_files:
        files.write_open_file(tasks_fd, path, "0", shell=f"echo $$ > {path}")
        os.close(tasks_fd)


def reset_signals(init: Init) -> None:
    """Reset every signal to its default action, and unblock all.

    The program inherits which signals are ignored or blocked, and Python ignores SIGPIPE: a
    pipeline in the container would not end with its reader. See: signal(7) "Execution".

    The kernel drops signals to process 1 for which it has no handler, so that a container that
    waits for `start` could only be killed. So it gets a handler for the signals that end other
    processes; execve(2) removes it.
    """
    for number in signals.CATCHABLE:
        signals.handle(number, signals.SIG_DFL)
    if os.getpid() == 1:  # not later: a filter may forbid sigaction(2)
        for number in (signals.SIGHUP, signals.SIGINT, signals.SIGQUIT, signals.SIGTERM):
            signals.handle(number, _end)
    signals.set_mask(())


def _end(number: int, _: object) -> NoReturn:
    os._exit(128 + number)


def forbid_tracing(init: Init) -> None:
    """Forbid other processes to trace this one, while it still has what the host gave it.

    In a shared PID namespace, a process of the container could otherwise reach the host through
    /proc/PID: CVE-2016-9962. execve(2) of the program lifts this.
    """
    process.set_dumpable(False)
    process.set_name("minic:init")


@steps.needed_if(lambda spec: spec.has_namespace("user"))
def become_root_inside(init: Init) -> None:
    """Become user and group 0 of the new user namespace, whose maps the parent has written.

    Until then this process may have ids that the namespace does not map: its files would belong to
    nobody. See: user_namespaces(7).
    """
    process.set_groups(())
    process.set_gid(0)
    process.set_uid(0)
    # a change of ids resets this to suid_dumpable: see proc(5)
    process.set_dumpable(False)


def start_session(init: Init) -> None:
    """Leave the caller's session: its Ctrl-C and its terminal are not the container's."""
    process.new_session()


@steps.needed_if(lambda spec: spec.new_namespace("cgroup"))
def unshare_cgroup(init: Init) -> None:
    """Make a cgroup namespace, so that this process's cgroup is the root of what it sees.

    clone3(2) did not make it with the others: the root of a cgroup namespace is the cgroup of its
    maker at that moment, and only now is this process in the container's. See:
    cgroup_namespaces(7).
    """
    namespaces.unshare(namespaces.CLONE_NEWCGROUP)


@steps.needed_if(lambda spec: spec.hostname is not None)
def set_hostname(init: Init) -> None:
    """Set the host name, in the container's UTS namespace."""
    process.set_hostname(init.spec.hostname or "")


@steps.needed_if(lambda spec: spec.domainname is not None)
def set_domainname(init: Init) -> None:
    """Set the NIS domain name, in the container's UTS namespace."""
    process.set_domainname(init.spec.domainname or "")


@steps.needed_if(lambda spec: spec.new_namespace("network"))
def raise_loopback(init: Init) -> None:
    """Bring `lo` up: in a new network namespace it is there, but down."""
    interfaces.set_up("lo")


@steps.needed_if(lambda spec: not programs.environment(spec.process.env).get("HOME"))
def find_home(init: Init) -> None:
    """Set HOME, if the specification does not: engines leave it to the runtime.

    It comes from the container's own passwd(5), so it waits until the root is the container's.
    """
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    init.env["HOME"] = programs.home_of(init.spec.process.user.uid, root)
    os.close(root)


def find_program(init: Init) -> None:
    """Find the program in the container's PATH; a missing one then fails before `start`."""
    name = init.spec.process.args[0]
    init.executable = programs.find(name, init.env.get("PATH", ""))


def report_ready(init: Init) -> None:
    """Tell the parent that everything but the program is set up."""
    # again: the change of ids reset it, and a process of the program's user could trace this one
    process.set_dumpable(False)
    init.channel.send(Ready())


def wait_for_start(init: Init) -> None:
    """Wait for the message Start: networks are connected meanwhile.

    It comes from the parent; or, where the parent leaves after `create`, from the command `start`,
    through a socket. If the parent is gone before that, its channel reads as closed, and this
    process ends.
    """
    if init.gate is not None:
        init.channel = init.gate  # the other one closes at execve: a filter may forbid close(2)
        steps.listen(None, "init")  # who listened was the parent, and that has ended
    if not isinstance(init.channel.receive(), Start):
        os._exit(EXIT_NOT_STARTED)  # the parent is gone, or has given up


def announce_program(init: Init) -> None:
    """Announce that only execve is left: from then on a closed channel means that it has happened.

    Before a filter that comes last, because that may forbid write(2).
    """
    init.channel.send(Leaving())


def die_with_parent(init: Init) -> None:
    """Ask the kernel to kill this process when its parent ends, unless it is detached.

    After the change of ids, which clears this. And before the wait for the parent's last message: a
    parent that ended earlier causes no signal, but it sends no message either.
    """
    if not init.options.detached:  # a detached process outlives its parent
        process.die_with_parent()


@steps.needed_if(lambda spec: spec.annotations.get(WANTS_REAPER))
def stay_as_reaper(init: Init) -> None:
    """With --init, stay as process 1: fork the program, reap orphans, pass signals on."""
    reaper.run(
        forked=init.channel.close,
        program=lambda: _run_as_child(init),
        failed=lambda error: init.channel.send(failure(error)),
        title=_title(init),
    )


def _title(init: Init) -> tuple[str, ...]:
    """Give the command line of process 1, where the annotation names it by a path."""
    name = init.spec.annotations[WANTS_REAPER]
    return (name, "--", *init.spec.process.args) if name.startswith("/") else ()


def _run_as_child(init: Init) -> None:
    pass_events_on(init.channel, "program")
    if init.spec.process.terminal:  # it stays in the session, whose terminal it has
        from minicontainer.kernel import terminal

        process.new_group()
        terminal.take_foreground(0)
    else:
        process.new_session()
    steps.take(run_program, init)


def run_program(init: Init) -> None:
    """Become the program: execve(2)."""
    process.run_program(init.executable, init.spec.process.args, init.env)


# What a container is: each step, in the order in which `main` takes them, and why it stands here.
# The tables of docs/explanation/architecture.md are made from the recipes (scripts/step_tables.py).
RECIPE: Recipe = {
    join_cgroups: "first: the limits then cover every later step (v1; on v2 `clone3` did it)",
    reset_affinity: "in the cgroup, whose processors count; the caller may be bound to fewer",
    reset_signals: "the program inherits which signals are ignored or blocked",
    forbid_tracing: "before a process of the container can look at this one, which has host rights",
    become_root_inside: "the id maps are written: files made from here on belong to the inner root",
    start_session: "the caller's Ctrl-C and terminal are not the container's",
    join_keyring: "as root of the container; the caller's keyring holds the caller's secrets",
    set_rlimits: "while CAP_SYS_RESOURCE may be held to raise one",
    set_sysctls: "as root of the namespaces that have these parameters",
    unshare_cgroup: "a cgroup namespace has its maker's cgroup as root: now it is the container's",
    isolate_mounts: "before the first mount, which would otherwise appear on the host",
    mount_rootfs: "`pivot_root` wants a mount point, and the image must not be written to",
    mount_filesystems: "while the host's tree is there to bind from",
    make_devices: "on the `/dev` that was just mounted",
    open_terminal: "from the container's own devpts, which is mounted now",
    settle_streams: "while the host's null device is there, for a container that has none",
    wait_for_runtime_hooks: "all mounts are made, and the root is still the host's",
    run_create_container_hooks: "the host's programs, in the container's namespaces",
    enter_rootfs: "`pivot_root`; the host's tree is unmounted",
    enter_directory: "while a missing directory can still be made",
    protect_paths: "now that the paths are the container's own",
    make_rootfs_readonly: "after the last mount point in it was made",
    spread_mounts: "`pivot_root` refuses a shared root; in an unbindable one no bind would work",
    set_hostname: "at any time in the UTS namespace",
    set_domainname: "at any time in the UTS namespace",
    raise_loopback: "at any time in the network namespace, while CAP_NET_ADMIN is held",
    find_home: "from the container's `/etc/passwd`, if `process.env` has no HOME",
    find_program: "so that a missing program fails `create` and not `start`",
    set_scheduler: "while CAP_SYS_NICE is held, and no filter forbids the call",
    set_io_priority: "while CAP_SYS_NICE is held, and no filter forbids the call",
    set_memory_policy: "in the cgroup, which limits the memory nodes too",
    set_personality: "while no filter forbids the call",
    set_labels: "before `no_new_privs`, which forbids it; late, or a hook would get the label",
    set_umask: "while no filter forbids the call",
    forbid_new_privileges: "a filter then needs no CAP_SYS_ADMIN, and can come last",
    filter_if_privileged: "while CAP_SYS_ADMIN is held: without `no_new_privs` a filter needs it",
    drop_bounding_set: "while CAP_SETPCAP is held",
    become_user: "groups first, which only a privileged process may set; the user id last",
    set_capabilities: "after `setuid`, which clears the effective set",
    die_with_parent: "after `setuid`, which clears this too; before the wait for the parent",
    report_ready: "everything but the program is set up",
    wait_for_start: "the parent connects networks meanwhile",
    set_last_rlimits: "a limit of memory or files could hinder every step above",
    announce_program: "from here on, a closed channel means that `execve` happened",
    filter_if_unprivileged: "last, so that the steps above need not pass it; those below must",
    run_start_container_hooks: "the image's programs, under all limits that the container's has",
    stay_as_reaper: "with `--init`: this process stays, and its child takes the last step",
    run_program: "`execve`",
}


def main(init: Init, recipe: Recipe = RECIPE) -> NoReturn:
    """Follow the recipe in the forked child; it ends in execve(2), or in `os._exit`.

    No code of the parent may run here: no exit handlers, no flushing of its buffers.
    """
    try:
        os.umask(0)  # the modes of new files are meant as they are written
        gc.disable()  # a collection would write to, and so copy, every page shared with the parent
        process.close_all_but(init.descriptors())
        pass_events_on(init.channel, "init")
        if not init.waits or isinstance(init.channel.receive(), Go):
            steps.follow(recipe, init.spec, init)
    except BaseException as error:  # the process ends here, and its parent says why
        with suppress(OSError):
            init.channel.send(failure(error))
    os._exit(EXIT_NOT_STARTED)
