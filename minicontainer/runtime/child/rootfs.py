"""The recipe's steps that make the container's file tree: its root, and what is mounted in it.

    the namespace is cut off ─► the root is a mount ─► the mounts in it
        ─► devices, terminal, streams ─► the root is entered ─► paths are hidden or read-only

All of it is in the container's own mount namespace, and ends with the container's last process.
`mounts.entry` and `mounts.binds` show how one mount is made.

See: pivot_root(2), mount_namespaces(7); runtime-spec config.md "Root", "Mounts".
"""

from __future__ import annotations

import errno
import os

from minicontainer import steps
from minicontainer.cgroups.hierarchies import unescaped
from minicontainer.contexts import suppress
from minicontainer.errors import InitError, InvalidArgument, KernelError, shortened
from minicontainer.kernel import files, mounts, paths
from minicontainer.kernel.mount_options import OPTIONS, parse_options
from minicontainer.runtime.child import devices, streams
from minicontainer.runtime.mounts import binds, cgroup_mounts, places, protect
from minicontainer.runtime.mounts.entry import mount_one
from minicontainer.runtime.preload import forbid_imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from minicontainer.runtime.config.spec import Mount, Spec
    from minicontainer.runtime.inputs import Init

_CUT = mounts.MS_PRIVATE | mounts.MS_REC


def isolate_mounts(init: Init) -> None:
    """Cut the mount namespace off from the host's, before the first mount.

    A new mount namespace is a copy, and its mounts are still peers of the host's: a mount made here
    would appear on the host too. See: mount_namespaces(7) "Shared subtrees".
    """
    # A shared copy would send our mounts to the host; as a slave it only receives.
    wanted = OPTIONS[_propagation(init.spec)].propagation
    receives = wanted & (mounts.MS_SLAVE | mounts.MS_SHARED)
    kind, word = (mounts.MS_SLAVE | mounts.MS_REC, "rslave") if receives else (_CUT, "rprivate")
    mounts.mount(None, "/", None, kind, shell=f"mount --make-{word} /")


def _propagation(spec: Spec) -> str:
    return spec.linux.rootfs_propagation or "rprivate"


def mount_rootfs(init: Init) -> None:
    """Make the root file system a mount: an overlay over the image, or a bind of the directory.

    pivot_root(2) wants a mount point, and the image's tree must not be written to.
    """
    layers = [
        (binds.located(mount, init.bundle.path), init.copies.get(i))
        for i, mount in enumerate(init.spec.mounts)
        if places.is_root(mount)
    ]
    init.root_fd = _mount_root(init.bundle.rootfs, layers)


def _mount_root(path: str, layers: Iterable[tuple[Mount, int | None]]) -> int:
    """Make *path* a mount of its own, with *layers* (mounts whose destination is "/") on it.

    What the container later does to its root mount must not affect the host's.

    Args:
        path: the root file system's directory, on the host.
        layers: overlays, or binds of other directories, each with the detached mount that
            the parent made for it, or None; without layers the root is *path* itself.
    Returns:
        A descriptor of the root.
    """
    with files.opened(_open_directory(path)) as place:
        root = mounts.open_tree(path, recursive=True)
        mounts.move_mount(root, place, where=path, shell=f"mount --rbind {path} {path}")
    stack = [root]
    for layer, copy in layers:
        if layer.type == "overlay":
            top = _mount_overlay(path, layer, stack)
        elif not parse_options(layer.options, layer.type).bind:
            raise InvalidArgument(f"mounts: {layer.type} can't be the root: use overlay or bind")
        else:
            top = binds.open_source(layer) if copy is None else copy
            # Made on the host, and so perhaps a peer of a shared mount: as the parent of the
            # new root pivot_root(2) would refuse it.
            binds.propagate(top, _CUT)
            mounts.move_mount(top, stack[-1], where=path)
        stack.append(top)
    for covered in stack[:-1]:
        os.close(covered)
    return stack[-1]


def _open_directory(path: str) -> int:
    """Open a directory of the host, by O_PATH, which needs no permission to read it."""
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(error.errno, error.strerror, f"open root file system {path}") from None


def _mount_overlay(path: str, layer: Mount, stack: Sequence[int]) -> int:
    """Mount an overlay on the root.

    A lower directory that is the root itself stands for the mounts that are stacked there, from the
    uppermost down: so an engine names id-mapped layers, which have no other place.
    """
    from minicontainer.kernel import overlay  # most bundles of other engines have none

    words = parse_options(layer.options).data
    source = layer.source or "overlay"
    asked = overlay.parse(words)
    if asked is not None:
        stacked = [f"/proc/self/fd/{fd}" for fd in stack]
        lowers = tuple(stacked.pop() if x == path and stacked else x for x in asked.lowers)
        return overlay.mount(asked.replace(lowers=lowers), stack[-1], where=path, source=source)
    data = ",".join(words)
    shell = f"mount -t overlay -o {' -o '.join(words)} {source} {path}"
    mounts.mount(source, path, "overlay", 0, data, shell=shell)
    return _open_directory(path)


def mount_filesystems(init: Init) -> None:
    """Make the specification's mounts, in its order: proc, /dev, /sys, volumes, …

    Before the root changes, while the host's tree is there to bind from.
    """
    root = paths.Root(init.root_fd)
    label = init.spec.linux.mount_label  # only used where SELinux is active
    for i, asked in enumerate(init.spec.mounts):
        if places.is_root(asked):
            continue
        try:
            if cgroup_mounts.is_meant(asked, init.views):
                cgroup_mounts.mount_cgroups(root, asked, init.views, init.spec)
                continue
            mount = binds.located(asked, init.bundle.path)
            if label:
                from minicontainer.runtime.mounts import mount_labels

                mount = mount_labels.with_label(mount, label)
            filled = mount_one(root, mount, init.copies.get(i))
            if label and init.spec.has_namespace("ipc"):  # otherwise the queues are the host's
                mount_labels.label_queues(root.fd, mount, label)
            if filled is not None:
                init.unfinished.append(filled)
        except KernelError as error:
            place = shortened(asked.destination)
            raise KernelError(
                error.errno, error.strerror, f"mount {place}: {error.filename}"
            ) from None


@steps.needed_if(lambda spec: not devices.are_the_hosts(spec))
def make_devices(init: Init) -> None:
    """Make /dev/null and the other devices, and links such as /dev/stdin, on the tmpfs mounted on
    /dev.

    Not if /dev is a bind of the host's: that has them, and nothing may be made there.
    """
    devices.make_devices(init.root_fd, init.spec, init.nodes)


@steps.needed_if(lambda spec: spec.process.terminal)
def open_terminal(init: Init) -> None:
    """Open a pseudo-terminal of the container's own devpts, and send its master to the parent.

    It comes from the container's instance, so that its name under /dev/pts is right inside.
    """
    from minicontainer.runtime.child import console  # sockets and termios: 5 ms, see `preload`

    console.open_for(init.root_fd, init.options, init.spec.process)


def settle_streams(init: Init) -> None:
    """Make the standard streams the container's own: its null device, its user's pipes.

    Now, while the host's null device is there, for a container that has none, and while chown(2) is
    permitted.
    """
    streams.replace_null(init.root_fd, streams.open_spare)
    streams.give_pipes(init.spec.process.user.uid, os.fstat(init.channel.reads).st_dev)


def enter_rootfs(init: Init) -> None:
    """Change the root with pivot_root(2) and unmount the host's tree.

    chroot(2) would leave the host's mounts in the namespace, and a process with CAP_SYS_CHROOT can
    leave a chroot. It is used only where the host's own root can't be moved (--no-pivot).
    """
    forbid_imports()  # from here on the files are the container's: see `preload`
    if init.spec.linux.masked_paths:
        init.null_fd = devices.open_null()  # the last descriptor taken from the host
    if init.options.no_pivot:
        _hide_full_mounts(init.bundle.rootfs)
        os.fchdir(init.root_fd)
        mounts.mount(".", "/", None, mounts.MS_MOVE, shell="mount --move . /")
        mounts.chroot(".")
    else:
        # With "." for both, the old root is mounted over the new one, and the image needs no
        # directory for it: pivot_root(2) "pivot_root(".", ".")".
        os.fchdir(init.root_fd)
        mounts.pivot_root(".", ".")
        mounts.umount2(".", mounts.MNT_DETACH)
    os.chdir("/")


def _hide_full_mounts(root: str) -> None:
    """Remove the host's proc and sysfs, which stay in the namespace without pivot_root(2).

    The kernel lets a user namespace mount proc only if it already sees one without masks. With the
    host's out of the way, it sees the container's own, with its masks.
    """
    for line in files.read_file("/proc/self/mountinfo").splitlines():
        words, _, described = line.partition(" - ")
        inside, place = map(unescaped, words.split()[3:5])
        below_root = place == root or place.startswith(f"{root}/")
        if inside != "/" or described.split()[0] not in ("proc", "sysfs") or below_root:
            continue
        try:
            mounts.umount2(place, mounts.MNT_DETACH)
        except KernelError as error:
            # In a user namespace these are locked, and can only be covered; or the mount went with
            # one above it.
            if error.errno != errno.ENOENT:
                mounts.mount(
                    "tmpfs", place, "tmpfs", mounts.MS_RDONLY, shell=f"mount -t tmpfs tmpfs {place}"
                )


def enter_directory(init: Init) -> None:
    """Make the working directory if it is missing, and change to it."""
    cwd = init.spec.process.cwd
    with suppress(KernelError):  # a read-only root: chdir reports what is missing
        os.close(paths.make_in_root(init.root_fd, cwd, directory=True))
    change_directory(init)


def change_directory(init: Init) -> None:
    """Change to the working directory, and check that it is in the root.

    Through a descriptor of the host that was left open, /proc/self/fd/N would lead out:
    CVE-2024-21626.
    getcwd(2) then fails, or its result begins with "(unreachable)".
    """
    cwd = init.spec.process.cwd
    try:
        os.chdir(cwd)
        inside = os.getcwd().startswith("/")
    except OSError as error:
        raise KernelError(error.errno, error.strerror, f"working directory {cwd}") from None
    if not inside:
        raise InitError(f"cwd {cwd} is outside of the container's root file system")


def protect_paths(init: Init) -> None:
    """Mask or write-protect paths that reveal or change the host: they are the container's now."""
    for filled in init.unfinished:
        protect.make_mount_readonly(filled)
        os.close(filled)
    protect.make_readonly(init.root_fd, init.spec.linux.readonly_paths)
    if init.spec.linux.masked_paths:
        # without `enter-rootfs`, the host's is still there
        null = init.null_fd if init.null_fd >= 0 else devices.open_null()
        protect.mask(init.root_fd, init.spec.linux.masked_paths, null)


@steps.needed_if(lambda spec: spec.root.readonly)
def make_rootfs_readonly(init: Init) -> None:
    """Make the root read-only, after the last mount point in it was made."""
    protect.make_mount_readonly(init.root_fd)


@steps.needed_if(lambda spec: _propagation(spec).endswith(("shared", "unbindable")))
def spread_mounts(init: Init) -> None:
    """Set how later mounts in the root propagate.

    This comes last: pivot_root(2) refuses a shared root, and nothing in an unbindable one can be
    bound.
    """
    binds.propagate(init.root_fd, OPTIONS[_propagation(init.spec)].propagation)
