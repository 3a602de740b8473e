"""Mounts that only a process of the host can copy: it passes them to init detached.

See: open_tree(2), mount_namespaces(7) "Restrictions on mount namespaces".
"""

from __future__ import annotations

import errno
import os

from minicontainer.contexts import ExitStack, contextmanager
from minicontainer.errors import KernelError
from minicontainer.kernel import files, namespaces
from minicontainer.runtime.mounts import binds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minicontainer.runtime.config.spec import Bundle, Mount, Spec


def copy_host_mounts(bundle: Bundle, undo: ExitStack) -> dict[int, int]:
    """Copy the mounts that a container can't copy itself.

    These are id-mapped mounts, which only the host's root may make; mounts that stay linked to the
    host's (slave, shared), since the container's mount namespace has all links cut; and for a user
    namespace all binds, whose sources its root may not reach. A bind of a place in the container's
    own root is left to init: the place does not exist yet.

    Returns:
        Descriptors, by index in the specification's list.
    """
    found = {}
    rootfs = bundle.rootfs
    with ExitStack() as here:
        if bundle.spec.has_namespace("user"):
            here.enter_context(_where_they_are_locked())
        for i, asked in enumerate(bundle.spec.mounts):
            if binds.comes_from_the_host(asked, bundle.spec):
                mount = binds.located(asked, bundle.path)
                earlier = bundle.spec.mounts[:i]
                if binds.is_id_mapped(mount) or not binds.is_there_later(mount, earlier, rootfs):
                    found[i] = _copy(mount, bundle.spec)
                    undo.callback(os.close, found[i])
    return found


@contextmanager
def _where_they_are_locked() -> Iterator[None]:
    """Run the block in a mount namespace of a user namespace, where the host's mounts are locked.

    A copy made there is locked too. From an unlocked copy, root of the container's user namespace
    could remove the host's read-only flag by mount(8)'s remount, and unmount what covers a
    directory.
    """
    flags = namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNS
    with namespaces.held(flags) as (_, pidfd), _in_mounts_of(pidfd):
        yield


@contextmanager
def _in_mounts_of(pidfd: int) -> Iterator[None]:
    """Enter a process's mount namespace for the block, and return afterwards: setns(2).

    The namespace's root becomes this process's root. It was that before: a process in a chroot
    can't make a user namespace, clone(2) EPERM.
    """
    kind = namespaces.BY_TYPE["mount"]
    with (
        files.opened(namespaces.open_namespace(f"/proc/self/ns/{kind.link}", kind)) as own,
        files.opened(os.open(".", os.O_PATH | os.O_CLOEXEC)) as directory,
    ):
        try:
            namespaces.join_process(pidfd, namespaces.CLONE_NEWNS)
            yield
        finally:
            namespaces.setns(own, kind)
            os.fchdir(directory)


def _copy(mount: Mount, spec: Spec) -> int:
    if binds.is_id_mapped(mount):
        from minicontainer.runtime.parent import idmaps  # few containers need it

        return idmaps.open_mount(mount, spec.linux)
    try:
        return binds.open_source(mount)
    except KernelError as error:
        if error.errno != errno.EINVAL or not spec.has_namespace("user"):
            raise
        raise KernelError(
            error.errno,
            "it is unbindable, or has mounts below it, and a user namespace must not uncover what "
            "is under them: use rbind",
            error.filename,
        ) from None
