"""The SELinux label of the container's own filesystems: `linux.mountLabel`.

SELinux gives each file of a filesystem that keeps no labels the type of that filesystem, which no
confined program may touch; the label says that they are the container's.

See: runtime-spec config-linux.md "Mount Label"; mount(8) "context"; selinux(8).
"""

from __future__ import annotations

import os

from minicontainer.kernel import files, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.config.spec import Mount

# The kernel's own views, labelled by the policy: no label of a container's belongs there.
_KERNELS = ("proc", "sysfs", "cgroup", "cgroup2", "mqueue", "none", None)


def with_label(mount: Mount, label: str) -> Mount:
    """Give a new filesystem the label; binds, and the kernel's own, keep what they have."""
    if mount.type in _KERNELS or not _is_new(mount):
        return mount
    # With a comma in it the option goes through mount(2), where a comma ends it, unless quoted.
    word = f'context="{label}"' if "," in label else f"context={label}"
    return mount.replace(options=(*mount.options, word))


def label_queues(root_fd: int, mount: Mount, label: str) -> None:
    """Give the message queues of the container's IPC namespace the label, once they are mounted.

    All mounts of them are one filesystem, made with the namespace: at a mount no context of its own
    can be chosen. Its root's label is kept, and the queues that are made in it follow that.

    Args:
        root_fd: the container's root.
    Raises:
        KernelError: ENOTSUP when the policy says that the queues keep no labels.
    """
    if mount.type == "mqueue" and _is_new(mount):
        place = paths.open_in_root(root_fd, mount.destination, os.O_RDONLY | os.O_DIRECTORY)
        with files.opened(place):
            files.set_attribute_of(
                place, "security.selinux", label.encode() + b"\0", where=mount.destination
            )


def _is_new(mount: Mount) -> bool:
    return not {"bind", "rbind", "remount"} & set(mount.options)
