"""The recipe's steps for rare attributes of the process, and for sysctls of its namespaces.

Each step is one field of the specification and one call. Files in /proc are written through a
procfs that this process mounts for itself. Modules that few containers need are imported late:
`preload`.

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
    """Leave the caller's session keyring, which holds the caller's secrets, for a new one.

    As root of the container, so that the keyring belongs to it, and before any program runs in the
    container. See: keyrings(7).
    """
    if not init.options.new_keyring:
        return
    label = init.spec.process.selinux_label
    if label:  # keys made from here on get it: the new keyring
        _label("self/attr/keycreate", label, "process.selinuxLabel")
    try:
        number = keyring.join_session(f"_ses.{init.state.id}")
        # A later `exec` finds the keyring by its name; in a user namespace it does so as another
        # user.
        keyring.let_find(number, others=init.spec.has_namespace("user"))
    except KernelError as error:
        if error.errno == errno.EDQUOT:
            raise Unsupported(
                f"{error}: /proc/sys/kernel/keys says how many keys a user may have: raise it, "
                "or use --no-new-keyring"
            ) from None
        if error.errno != errno.ENOSYS:  # a kernel without keyrings has no secrets in them
            raise
    if label:
        _label("self/attr/keycreate", "", "process.selinuxLabel")


@steps.needed_if(lambda spec: spec.process.exec_cpu_affinity)
def set_initial_affinity(init: Init) -> None:
    """Set the processors of a program for `exec`, before it is in the container's cgroup.

    The cgroup's cpuset may change them when the process moves into it.
    """
    _set_affinity(init, "initial")


def set_final_affinity(init: Init) -> None:
    """Set the processors of a program for `exec`, now that its cgroup's cpuset has taken effect.

    If the specification names none, the program gets all processors of the cgroup, as the
    container's first program does.
    """
    if init.spec.process.exec_cpu_affinity:
        _set_affinity(init, "final")
    else:
        reset_affinity(init)


def reset_affinity(init: Init) -> None:
    """Give the program all processors of its cgroup, whatever processors the caller is bound to.

    Since Linux 6.2 such a binding outlives the move into a cpuset: an engine that systemd binds to
    some processors (CPUAffinity=) would pass that on to all its containers. See:
    sched_setaffinity(2).
    """
    with suppress(KernelError):  # a filter on this process forbids it
        process.use_every_processor()


def _set_affinity(init: Init, field: str) -> None:
    from minicontainer.kernel import scheduling
    from minicontainer.runtime.config import attribute_check

    asked = init.spec.process.exec_cpu_affinity
    cpus = attribute_check.cpus_of(asked, field) if asked else frozenset()
    if cpus:
        scheduling.set_affinity(cpus)


def set_oom_score(who: str, score: int) -> None:
    """Tell the kernel how likely to kill a process when memory runs out: proc(5).

    Init can't do this itself. Its rights are those in the user namespace, and there nobody may
    lower the score; and once it is not dumpable, its files in /proc belong to the host's root.

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
                return  # the joiner wrote it, before both became non-dumpable
            raise KernelError(
                error.errno,
                "lower than the caller's, which only CAP_SYS_RESOURCE permits: use a higher one",
                f"process.oomScoreAdj {score}",
            ) from None  # fmt: skip


@steps.needed_if(lambda spec: spec.linux.sysctl)
def set_sysctls(init: Init) -> None:
    """Set kernel parameters of the container's own namespaces, which this process is in.

    Now, because the host's /proc is still there and the capabilities over the namespaces are held.
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
                    raise Unsupported(
                        f"linux.sysctl.{name}: this kernel has no such parameter"
                    ) from None
                raise KernelError(
                    error.errno, f"the kernel does not take {value!r}: {error.strerror}",
                    f"linux.sysctl.{name}",
                ) from None  # fmt: skip


@steps.needed_if(lambda spec: spec.process.scheduler)
def set_scheduler(init: Init) -> None:
    """Set how processors are shared, while CAP_SYS_NICE is held; see sched(7)."""
    from minicontainer.kernel import scheduling

    asked = init.spec.process.scheduler
    if asked is not None:
        scheduling.set_scheduler(
            asked.policy, nice=asked.nice, priority=asked.priority, flags=asked.flags,
            runtime=asked.runtime, deadline=asked.deadline, period=asked.period,
        )  # fmt: skip


@steps.needed_if(lambda spec: spec.process.io_priority)
def set_io_priority(init: Init) -> None:
    """Set the priority at disks, while CAP_SYS_NICE is held; see ioprio_set(2)."""
    from minicontainer.kernel import scheduling

    asked = init.spec.process.io_priority
    if asked is not None:
        scheduling.set_io_priority(asked.io_class, asked.priority)


@steps.needed_if(lambda spec: spec.linux.memory_policy)
def set_memory_policy(init: Init) -> None:
    """Set the memory nodes of the program's pages; the cgroup, which this process is in, limits
    them too.
    """
    from minicontainer.kernel import memory_policy, scheduling

    asked = init.spec.linux.memory_policy
    if asked is not None:
        nodes = scheduling.parse_list(asked.nodes, memory_policy.HIGHEST_NODE)
        memory_policy.set_mempolicy(asked.mode, nodes, asked.flags)


@steps.needed_if(lambda spec: spec.linux.personality)
def set_personality(init: Init) -> None:
    """Set which kind of Linux the program sees: with LINUX32, uname(2) reports 32 bits."""
    asked = init.spec.linux.personality
    if asked is not None:
        process.set_personality(process.PERSONALITIES[asked.domain])


@steps.needed_if(lambda spec: spec.process.apparmor_profile or spec.process.selinux_label)
def set_labels(init: Init) -> None:
    """Set the AppArmor profile or SELinux label that the program gets at execve(2).

    Before no_new_privs, which would forbid the change; and late, because an earlier execve(2), a
    hook's,
    would get the label.
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
            # before Linux 5.8; or there is no such profile, which this call then reports again
            _label("self/attr/exec", text, "process.apparmorProfile")


def _label(file: str, text: str, where: str) -> None:
    """Write to a file under attr/ of this process; the active security module decides about it.

    Args:
        where: the field that it comes from, for the error.
    """
    try:
        with procfs.opened() as proc_fd:
            procfs.write(proc_fd, file, text, object="process:label")
    except KernelError as error:
        reason = error.strerror
        if error.errno in (errno.ENOENT, errno.EINVAL):
            reason = f"the kernel does not have it: load it first ({error.strerror})"
        raise KernelError(error.errno, reason, f"{where}: {text.removeprefix('exec ')}") from None
