"""The recipe's steps that give up privileges: their order is what matters.

    no_new_privs ─► filter, if it needs CAP_SYS_ADMIN ─► bounding set ─► user ─► the other four sets
                                                                     … ─► filter, if it needs none

Each step needs a privilege that a later one gives up. See: capabilities(7), credentials(7),
seccomp(2).
"""

from __future__ import annotations

import os

from minicontainer import steps
from minicontainer.kernel import capabilities, process, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.inputs import Init

_UMASK = 0o022  # if the specification names none


def set_umask(init: Init) -> None:
    """Set the permissions that the program's new files lack.

    Now, because this process makes no more files, and a filter may forbid umask(2).
    """
    asked = init.spec.process.user.umask
    os.umask(_UMASK if asked is None else asked)


@steps.needed_if(lambda spec: spec.process.no_new_privileges)
def forbid_new_privileges(init: Init) -> None:
    """Set no_new_privs, if the specification asks: then no execve(2) grants privileges any more.

    A filter then needs no CAP_SYS_ADMIN, and can come last.
    """
    process.forbid_new_privileges()


@steps.needed_if(lambda spec: spec.linux.seccomp and not spec.process.no_new_privileges)
def filter_if_privileged(init: Init) -> None:
    """Load the system call filter while CAP_SYS_ADMIN is held.

    Without no_new_privs, the kernel demands that capability. The later steps must pass the filter.
    """
    _load_filter(init)


def drop_bounding_set(init: Init) -> None:
    """Limit the capabilities that a program file can grant, while CAP_SETPCAP is held."""
    asked = init.spec.process.capabilities
    capabilities.limit_bounding(capabilities.mask_of(asked.bounding) if asked else 0)


def become_user(init: Init) -> None:
    """Become the user: groups first, which only a privileged process may set; the user id last.

    The capabilities are kept across the change; the next step sets them.
    """
    user = init.spec.process.user
    process.keep_capabilities(True)
    process.set_groups(user.additional_gids)
    process.set_gid(user.gid)
    process.set_uid(user.uid)


def set_capabilities(init: Init) -> None:
    """Set the other four sets, after setuid(2), which clears the effective one."""
    process.keep_capabilities(False)
    asked = init.spec.process.capabilities
    held = capabilities.own_sets()["permitted"]
    sets = {
        kind: capabilities.mask_of(getattr(asked, kind)) & held if asked else 0
        for kind in ("effective", "permitted", "inheritable", "ambient")
    }
    capabilities.set_sets(sets["effective"], sets["permitted"], sets["inheritable"])
    capabilities.set_ambient(sets["ambient"] & sets["permitted"] & sets["inheritable"])


@steps.needed_if(lambda spec: spec.linux.seccomp and spec.process.no_new_privileges)
def filter_if_unprivileged(init: Init) -> None:
    """Load the system call filter last: of all the steps, only the hooks, the fork of --init and
    execve(2) itself then must pass it.
    """
    _load_filter(init)


def _load_filter(init: Init) -> None:
    profile = init.spec.linux.seccomp
    if profile is None:
        return
    flags = seccomp.filter_flags(profile)
    init.channel.flush()  # it may be the last that this process can tell
    if flags & seccomp.SECCOMP_FILTER_FLAG_NEW_LISTENER:
        from minicontainer.runtime.parent import listener  # see `preload`

        init.kept = listener.load_filter(init.channel, profile, init.seccomp_filter, flags)
    else:
        seccomp.load(init.seccomp_filter, flags)
