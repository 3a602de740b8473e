"""/sys/fs/cgroup: the container's own groups, on either version.

    v2, own cgroup namespace      a cgroup2 filesystem, whose root is the container's group
    v2, the host's                a bind of the host's hierarchy: a new mount made there would
                                  change the options of the host's (nsdelegate, …)
    v1, hybrid                    a tmpfs, with a bind of the group of each hierarchy

See: cgroups(7), cgroup_namespaces(7); runtime-spec config.md "Mounts"; CVE-2023-25809.
"""

from __future__ import annotations

import errno
import os

from minicontainer.errors import KernelError
from minicontainer.kernel import files, mounts, paths
from minicontainer.kernel.mount_options import OPTIONS, parse_options
from minicontainer.runtime.mounts import binds, places
from minicontainer.runtime.mounts.entry import new_mount, writable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.cgroups.hierarchies import View
    from minicontainer.kernel.mount_options import Options
    from minicontainer.kernel.paths import Root
    from minicontainer.runtime.config.spec import Mount, Spec


def is_meant(mount: Mount, views: tuple[View, ...]) -> bool:
    """Report whether a mount is to show the container's groups: its type is cgroup, or cgroup2 on
    v2.
    """
    return mount.type == "cgroup" or (mount.type == "cgroup2" and _is_unified(views))


def _is_unified(views: tuple[View, ...]) -> bool:
    return len(views) == 1 and not views[0].name


def mount_cgroups(root: Root, mount: Mount, views: tuple[View, ...], spec: Spec) -> None:
    """Make a mount of type cgroup.

    Args:
        views: the directories that it consists of.
        spec: for its namespaces. In a user namespace without a cgroup namespace, the mount is
            read-only:
            groups beside the container's own may belong to the same user.
    """
    # other options, such as xattr, are the hierarchy's, which exists already
    options = parse_options(mount.options).replace(data=(), flags=())
    own = spec.has_namespace("cgroup")
    if spec.has_namespace("user") and not own:
        readonly = options.attributes.then(OPTIONS["ro"].set, OPTIONS["ro"].clear)
        options = options.replace(attributes=readonly)
    place = paths.make_in_root(root.fd, mount.destination, directory=True)
    with files.opened(place):
        places.check(root, place, mount)
        if _is_unified(views):
            _mount_unified(root, place, mount, options, views[0], own=own)
        else:
            _mount_hierarchies(root, place, mount, options, views)


def _mount_unified(
    root: Root, place: int, mount: Mount, options: Options, view: View, *, own: bool
) -> None:
    if own:
        whole = mount.replace(type=view.filesystem, source="cgroup")
        try:
            os.close(new_mount(root, place, whole, options))
        except KernelError as error:
            # A user namespace that joined a cgroup namespace does not own it.
            if error.errno not in (errno.EPERM, errno.EBUSY):
                raise
        else:
            return
    source = view.source if own else view.hierarchy
    _bind(place, mount.replace(source=source), options)


def _bind(place: int, mount: Mount, options: Options) -> None:
    with files.opened(binds.open_source(mount)) as tree:
        binds.attach(tree, place, mount, options)


def _mount_hierarchies(
    root: Root, place: int, mount: Mount, options: Options, views: tuple[View, ...]
) -> None:
    holder = mount.replace(type="tmpfs", source="tmpfs")
    filled = writable(options).replace(data=("mode=755", "size=1m"))  # until everything is in it
    with files.opened(new_mount(root, place, holder, filled)) as top:
        for view in views:
            where = f"{mount.destination}/{view.name}"
            files.make_dir(view.name, at=top, where=where)
            below = mount.replace(destination=where, source=view.source)
            with files.opened(paths.open_in_root(top, view.name)) as directory:
                _bind(directory, below, options)
        for view in views:
            for name in view.links:
                where = f"{mount.destination}/{name}"
                files.make_symlink(view.name, name, at=top, where=where)
        mounts.mount_setattr(top, options.attributes)
