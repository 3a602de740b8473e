"""Bind mounts: show a file or directory of the host at a place in the container.

A copy of the mount is made detached, gets its attributes, and is attached last. So at no moment a
read-only bind is writable. If the container may not make that copy, its parent does.

See: mount(2) "Creating a bind mount", open_tree(2), mount_setattr(2), mount_namespaces(7).
"""

from __future__ import annotations

import errno
import os

from minicontainer.errors import InvalidArgument, KernelError
from minicontainer.kernel import files, mount_options, mounts, paths
from minicontainer.kernel.mount_options import parse_options
from minicontainer.runtime.mounts import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minicontainer.kernel.mount_options import Options
    from minicontainer.kernel.paths import Root
    from minicontainer.runtime.config.spec import Mount, Spec


def located(mount: Mount, bundle: str) -> Mount:
    """Return *mount* with an absolute source: a bind's relative one is in the bundle."""
    source = mount.source or ""
    if source.startswith("/") or not parse_options(mount.options, mount.type).bind:
        return mount
    return mount.replace(source=os.path.join(bundle, source))


def comes_from_the_host(mount: Mount, spec: Spec) -> bool:
    """Report whether only a process of the host can copy the source of *mount*.

    This is so for
    - id-mapped mounts, which only the host's root may make;
    - mounts linked to the host's (slave, shared), since a container's mount namespace has no links
    left;
    - every bind for a user namespace, whose root may have no access to the source: the directories
      above a volume, or a user's home, are often closed to other users.
    """
    options = parse_options(mount.options, mount.type)
    if not options.bind or "remount" in options.asked:
        return is_id_mapped(mount)
    linked = any(kind & (mounts.MS_SLAVE | mounts.MS_SHARED) for kind in options.propagation)
    return is_id_mapped(mount) or linked or spec.has_namespace("user")


def is_there_later(mount: Mount, earlier: Iterable[Mount], rootfs: str) -> bool:
    """Report whether the source of a bind only appears when an earlier mount of the container is
    made.

    Such a source is a directory in the container's own root. In the parent, it is missing, or is
    the directory that the earlier mount will cover.

    Args:
        mount: with an absolute source.
        rootfs: the root's directory on the host.
    """
    source = os.path.realpath(mount.source or "") + "/"
    covered = [os.path.normpath(before.destination).strip("/") for before in earlier]
    return any(source.startswith(f"{rootfs}/{place}/") for place in covered if place)


def is_id_mapped(mount: Mount) -> bool:
    """Report whether *mount* shows other owners than its files have."""
    asked = parse_options(mount.options, mount.type).asked
    return bool(mount.uid_mappings or mount.gid_mappings or "idmap" in asked or "ridmap" in asked)


def open_source(mount: Mount) -> int:
    """Return a detached copy of a bind's source.

    Raises:
        KernelError: the source does not exist, or this user may not reach it.
    """
    options = parse_options(mount.options, mount.type)
    recursive = bool(options.bind & mounts.MS_REC)
    try:
        if "src-nosymlinks" in options.asked:
            rules = paths.RESOLVE_NO_SYMLINKS
            fd = paths.openat2(mounts.AT_FDCWD, mount.source or "", os.O_PATH, rules)
            with files.opened(fd):
                return mounts.open_tree("", recursive=recursive, at=fd)
        return mounts.open_tree(
            mount.source or "",
            recursive=recursive,
            follow="src-nofollow" not in options.asked,
        )
    except KernelError as error:
        raise KernelError(error.errno, error.strerror, f"bind {mount.source}") from None


def bind(root: Root, mount: Mount, options: Options, copy: int | None) -> None:
    """Bind a file or directory of the host to a place in the container.

    Args:
        copy: the detached mount that the parent made for it, if only the host can.
    """
    if "copy-symlink" in options.asked and os.path.islink(mount.source or ""):
        if copy is not None:
            os.close(copy)
        _copy_link(root, mount)
        return
    with files.opened(open_source(mount) if copy is None else copy) as tree:
        place = paths.make_in_root(
            root.fd,
            mount.destination,
            directory=paths.is_directory(tree),
            follow="dest-nofollow" not in options.asked,
        )
        with files.opened(place):
            _check_kinds(tree, place, mount)
            places.check(root, place, mount)
            attach(tree, place, mount, options)


def _copy_link(root: Root, mount: Mount) -> None:
    """Make a symbolic link like the source, instead of mounting its target."""
    target = os.readlink(mount.source or "")
    directory, _, name = mount.destination.rstrip("/").rpartition("/")
    with files.opened(paths.make_in_root(root.fd, directory or "/", directory=True)) as parent:
        try:
            files.make_symlink(target, name, at=parent, where=mount.destination)
        except KernelError as error:
            if error.errno != errno.EEXIST or _link_in(parent, name) != target:
                raise


def _link_in(directory: int, name: str) -> str:
    """Return the target of a symbolic link; "" for anything else."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return ""


def _check_kinds(tree: int, place: int, mount: Mount) -> None:
    kinds = ["a directory" if paths.is_directory(fd) else "a file" for fd in (tree, place)]
    if kinds[0] != kinds[1]:
        raise InvalidArgument(
            f"can't mount {mount.source} on {mount.destination}: {kinds[0]} does not go on "
            f"{kinds[1]} of the container"
        )


def attach(tree: int, place: int, mount: Mount, options: Options) -> None:
    """Give a detached copy its attributes and its propagation, and attach it to a place.

    Raises:
        KernelError: EPERM: an option removes an attribute that the host's mount has locked.
    """
    _change(tree, mount, options)
    words = ",".join(word for word in mount.options if word not in ("bind", "rbind"))
    mounts.move_mount(
        tree, place, where=mount.destination,
        shell=f"mount --{'r' if options.bind & mounts.MS_REC else ''}bind "
        f"{files.shell_word(mount.source or '')} {files.shell_word(mount.destination)}"
        f"{' -o ' + words if words else ''}",
    )  # fmt: skip


def _change(tree: int, mount: Mount, options: Options) -> None:
    """Set the attributes and the propagation of a copy.

    A bind whose options name no attribute keeps all attributes of its source. If they name one, the
    bind has the attributes that they name, and no others; only the times of access stay as they
    are. (So do runc and crun, and so `docker run -v` has always done; mount(8) keeps the rest.)
    In a user namespace, the attributes of the host's mount are locked: those that no option names
    then stay.
    """
    if options.attributes == mounts.Attributes():
        _set_all(tree, options)
        return
    named = _named(mount, options.attributes)
    try:
        _set_all(tree, options.replace(attributes=_with(named, mount_options.ATTRIBUTES)))
    except KernelError as error:
        if error.errno != errno.EPERM:
            raise
        try:
            _set_all(tree, options.replace(attributes=_with(named, mount_options.NEVER_LOCKED)))
        except KernelError as refused:
            raise KernelError(
                refused.errno,
                "a user namespace can't take away what the host's mount has (ro, nosuid, nodev, "
                f"noexec, its times of access): {','.join(mount.options)} asks for it",
                f"bind {mount.source}",
            ) from None


def _named(mount: Mount, asked: mounts.Attributes) -> mounts.Attributes:
    """Keep the times of access as they are, unless an option sets them: then replace all of their
    bits.
    """
    times = mount_options.TIMES
    if asked.set & times or "relatime" in mount.options:  # whose bits are 0
        return asked.replace(
            clear=asked.clear | times & ~(asked.set & mounts.MOUNT_ATTR_NODIRATIME)
        )
    return asked.replace(clear=asked.clear & ~times)


def _with(named: mounts.Attributes, cleared: int) -> mounts.Attributes:
    return named.replace(clear=named.clear | cleared & ~named.set)


def _set_all(tree: int, options: Options) -> None:
    kinds = options.propagation or (mounts.MS_PRIVATE | mounts.MS_REC,)
    one = options.recursive == mounts.Attributes() and not options.bind & mounts.MS_REC
    if one and len(kinds) == 1:  # a single mount: one call does it
        propagation = kinds[0] & ~mounts.MS_REC
        mounts.mount_setattr(tree, options.attributes, propagation=propagation)
        return
    set_attributes(tree, options)
    for kind in kinds:
        propagate(tree, kind)


def set_attributes(mount_fd: int, options: Options) -> None:
    """Change the attributes that the options name, of the mount or of its tree."""
    if options.attributes != mounts.Attributes():
        mounts.mount_setattr(mount_fd, options.attributes)
    if options.recursive != mounts.Attributes():
        mounts.mount_setattr(mount_fd, options.recursive, recursive=True)


def propagate(mount_fd: int, kind: int) -> None:
    """Change the propagation of a mount; with MS_REC in *kind*, of its whole tree."""
    recursive = bool(kind & mounts.MS_REC)
    mounts.mount_setattr(
        mount_fd, mounts.Attributes(), propagation=kind & ~mounts.MS_REC, recursive=recursive
    )
