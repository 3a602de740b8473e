"""Security modules of the kernel: which are in charge here.

See: apparmor(7), selinux(8), kernel admin-guide/LSM.
"""

from __future__ import annotations

from minicontainer.errors import KernelError
from minicontainer.kernel import files


def has_apparmor() -> bool:
    """Say whether AppArmor can confine a process here."""
    return _reads("/sys/module/apparmor/parameters/enabled").strip() == "Y"


def has_selinux() -> bool:
    """Say whether SELinux labels processes here: its filesystem exists once a policy is wanted."""
    return "\tselinuxfs\n" in _reads("/proc/filesystems")


def _reads(path: str) -> str:
    try:
        return files.read_file(path)
    except KernelError:
        return ""
