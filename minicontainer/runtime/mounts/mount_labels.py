"""The SELinux label of the container's own filesystems: `linux.mountLabel`.

If a filesystem stores no labels, SELinux gives its files a type of that filesystem, which no
confined program may touch. The label marks them as the container's.

See: runtime-spec config-linux.md "Mount Label"; mount(8) "context"; selinux(8).
"""

from __future__ import annotations

import os

from minicontainer.kernel import files, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.config.spec import Mount

# Views of the kernel, which the policy labels: a container's label has no place there.
_KERNELS = ("proc", "sysfs", "cgroup", "cgroup2", "mqueue", "none", None)


def with_label(mount: Mount, label: str) -> Mount:
    """Return a mount with the label, if it is a new filesystem; binds and views of the kernel stay
    as they are.
    """
    if mount.type in _KERNELS or not _is_new(mount):
        return mount
    # An option with a comma goes through mount(2), where an unquoted comma would end it.
    word = f'context="{label}"' if "," in label else f"context={label}"
    return mount.replace(options=(*mount.options, word))


def label_queues(root_fd: int, mount: Mount, label: str) -> None:
    """Label the message queues of the container's IPC namespace, once they are mounted.

    All their mounts show one filesystem, made with the namespace, so that a mount can't choose a
    context. The label is set on its root, and new queues inherit it.

    Args:
        root_fd: the container's root.
    Raises:
        KernelError: ENOTSUP if the policy says that queues store no labels.
    """
    if mount.type == "mqueue" and _is_new(mount):
        place = paths.open_in_root(root_fd, mount.destination, os.O_RDONLY | os.O_DIRECTORY)
        with files.opened(place):
            files.set_attribute_of(
                place, "security.selinux", label.encode() + b"\0", where=mount.destination
            )


def _is_new(mount: Mount) -> bool:
    return not {"bind", "rbind", "remount"} & set(mount.options)
