"""The recipe's steps that give the process attributes, and its namespaces parameters, few ask for.

Each is one field of the specification and one call. What is written to /proc goes through a procfs
of our own. Modules that only few containers need are imported where they are used, and were loaded
when the specification was checked (`attribute_check`): once the root is the container's, nothing
can be.

See: runtime-spec config.md "Linux Process", config-linux.md; proc(5).
"""

from __future__ import annotations

import errno

from minicontainer import steps
from minicontainer.contexts import suppress
from minicontainer.errors import KernelError, Unsupported
from minicontainer.kernel import files, keyring, process, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.inputs import Init


def join_keyring(init: Init) -> None:
    """Leave the caller's session keyring, with the secrets in it, for one of the container's own.

    As root of the container, whose it shall be, and before anything runs in it. See: keyrings(7).
    """
    if not init.options.new_keyring:
        return
    label = init.spec.process.selinux_label
    if label:  # of keys that are made from here on: this one, that is
        _label("self/attr/keycreate", label, "process.selinuxLabel")
    try:
        number = keyring.join_session(f"_ses.{init.state.id}")
        # A later `exec` finds it by its name; in a user namespace as root of that, another user.
        keyring.let_find(number, others=init.spec.has_namespace("user"))
    except KernelError as error:
        if error.errno == errno.EDQUOT:
            raise Unsupported(
                f"{error}: /proc/sys/kernel/keys says how many keys a user may have: raise it, "
                "or use --no-new-keyring"
            ) from None
        if error.errno != errno.ENOSYS:  # no keyrings, no secrets in them
            raise
    if label:
        _label("self/attr/keycreate", "", "process.selinuxLabel")


@steps.needed_if(lambda spec: spec.process.exec_cpu_affinity)
def set_initial_affinity(init: Init) -> None:
    """Choose the processors of a program for `exec`, before it is in the container's cgroup.

    A cpuset of the cgroup may change them when it gets there.
    """
    _set_affinity(init, "initial")


def set_final_affinity(init: Init) -> None:
    """Choose the processors of a program for `exec`, now that its cgroup has had its say.

    Where nothing is asked for, it gets all that the cgroup has, as the container's own program.
    """
    if init.spec.process.exec_cpu_affinity:
        _set_affinity(init, "final")
    else:
        reset_affinity(init)


def reset_affinity(init: Init) -> None:
    """Give the program all processors of its cgroup, whichever ones the caller is bound to.

    Since Linux 6.2 such a bond outlives the move into a cpuset: an engine that systemd binds to
    some (CPUAffinity=) would pass that on to all its containers. See: sched_setaffinity(2).
    """
    with suppress(KernelError):  # a filter around us forbids it: what the caller has must do
        process.use_every_processor()


def _set_affinity(init: Init, field: str) -> None:
    from minicontainer.kernel import scheduling
    from minicontainer.runtime.config import attribute_check

    asked = init.spec.process.exec_cpu_affinity
    cpus = attribute_check.cpus_of(asked, field) if asked else frozenset()
    if cpus:
        scheduling.set_affinity(cpus)


def set_oom_score(who: str, score: int) -> None:
    """Tell the kernel how gladly to kill a process when memory runs out: proc(5).

    Not by init itself: what it may do is the user namespace's, which is never to go lower; and once
    it hides from tracers, its files in /proc are the host's root's.

    Args:
        who: `self`, or the number of a process that waits.
    Raises:
        KernelError: EACCES, for less than the process has, without CAP_SYS_RESOURCE.
    """
    path = f"{who}/oom_score_adj"
    with procfs.opened() as proc_fd:
        try:
            procfs.write(proc_fd, path, str(score))
        except KernelError as error:
            if error.errno != errno.EACCES:
                raise
            if files.read_file(path, at=proc_fd).strip() == str(score):
                return  # its joiner did this, before they hid
            raise KernelError(
                error.errno, "lower than here, which only CAP_SYS_RESOURCE permits: ask for more",
                f"process.oomScoreAdj {score}",
            ) from None  # fmt: skip


@steps.needed_if(lambda spec: spec.linux.sysctl)
def set_sysctls(init: Init) -> None:
    """Set kernel parameters of the container's own namespaces, which this process is in by now.

    While the host's /proc may still serve, and the capabilities over the namespaces are held.
    """
    from minicontainer.kernel import sysctls

    with procfs.opened() as proc_fd:
        for name, value in init.spec.linux.sysctl.items():
            path = sysctls.path_of(name)
            try:
                procfs.write(
                    proc_fd, f"sys/{path}", value,
                    object=f"sysctl:{path}", shell=f"sysctl -w {name}={value!r}",
                )  # fmt: skip
            except KernelError as error:
                if error.errno == errno.ENOENT:
                    raise Unsupported(f"linux.sysctl.{name}: this kernel has no such one") from None
                raise KernelError(
                    error.errno, f"the kernel does not take {value!r}: {error.strerror}",
                    f"linux.sysctl.{name}",
                ) from None  # fmt: skip


@steps.needed_if(lambda spec: spec.process.scheduler)
def set_scheduler(init: Init) -> None:
    """Choose how processors are shared, while CAP_SYS_NICE is held; see sched(7)."""
    from minicontainer.kernel import scheduling

    asked = init.spec.process.scheduler
    if asked is not None:
        scheduling.set_scheduler(
            asked.policy, nice=asked.nice, priority=asked.priority, flags=asked.flags,
            runtime=asked.runtime, deadline=asked.deadline, period=asked.period,
        )  # fmt: skip


@steps.needed_if(lambda spec: spec.process.io_priority)
def set_io_priority(init: Init) -> None:
    """Choose whose turn it is at a disk, while CAP_SYS_NICE is held; see ioprio_set(2)."""
    from minicontainer.kernel import scheduling

    asked = init.spec.process.io_priority
    if asked is not None:
        scheduling.set_io_priority(asked.io_class, asked.priority)


@steps.needed_if(lambda spec: spec.linux.memory_policy)
def set_memory_policy(init: Init) -> None:
    """Choose the memory nodes of the program's pages: in its cgroup, which limits them too."""
    from minicontainer.kernel import memory_policy, scheduling

    asked = init.spec.linux.memory_policy
    if asked is not None:
        nodes = scheduling.parse_list(asked.nodes, memory_policy.HIGHEST_NODE)
        memory_policy.set_mempolicy(asked.mode, nodes, asked.flags)


@steps.needed_if(lambda spec: spec.linux.personality)
def set_personality(init: Init) -> None:
    """Choose which kind of Linux the program sees: LINUX32 makes uname(2) tell of 32 bits."""
    asked = init.spec.linux.personality
    if asked is not None:
        process.set_personality(process.PERSONALITIES[asked.domain])


@steps.needed_if(lambda spec: spec.process.apparmor_profile or spec.process.selinux_label)
def set_labels(init: Init) -> None:
    """Say under which AppArmor profile or SELinux label execve(2) shall put the program.

    Before no_new_privs, which would forbid the change; and late, because until then a hook's
    execve(2) would take it.
    """
    asked = init.spec.process
    if asked.selinux_label:
        _label("self/attr/exec", asked.selinux_label, "process.selinuxLabel")
    if asked.apparmor_profile:
        text = f"exec {asked.apparmor_profile}"
        try:
            _label("self/attr/apparmor/exec", text, "process.apparmorProfile")
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            # before Linux 5.8; or there is no such profile, which is then said again
            _label("self/attr/exec", text, "process.apparmorProfile")


def _label(file: str, text: str, where: str) -> None:
    """Write to a file under attr/ of this process: the security module in charge judges it.

    Args:
        where: what it comes from, for the error.
    """
    try:
        with procfs.opened() as proc_fd:
            procfs.write(proc_fd, file, text, object="process:label")
    except KernelError as error:
        reason = error.strerror
        if error.errno in (errno.ENOENT, errno.EINVAL):
            reason = f"the kernel knows no such one: load it first ({error.strerror})"
        raise KernelError(error.errno, reason, f"{where}: {text.removeprefix('exec ')}") from None
