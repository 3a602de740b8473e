"""The SELinux label of the container's own filesystems: `linux.mountLabel`.

SELinux gives each file of a filesystem that keeps no labels the type of that filesystem, which no
confined program may touch; the label says that they are the container's.

See: runtime-spec config-linux.md "Mount Label"; mount(8) "context"; selinux(8).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.spec import Mount

# The kernel's own views, labelled by the policy: no label of a container's belongs there.
_KERNELS = ("proc", "sysfs", "cgroup", "cgroup2", "mqueue", "none", None)


def with_label(mount: Mount, label: str) -> Mount:
    """Give a new filesystem the label; binds, and the kernel's own, keep what they have."""
    if mount.type in _KERNELS or {"bind", "rbind", "remount"} & set(mount.options):
        return mount
    # With a comma in it the option goes through mount(2), where a comma ends it, unless quoted.
    word = f'context="{label}"' if "," in label else f"context={label}"
    return mount.replace(options=(*mount.options, word))
