"""Security modules of the kernel: which ones are active here.

See: apparmor(7), selinux(8), kernel admin-guide/LSM.
"""

from __future__ import annotations

from minicontainer.errors import KernelError
from minicontainer.kernel import files


def has_apparmor() -> bool:
    """Report whether AppArmor can confine a process here."""
    return _reads("/sys/module/apparmor/parameters/enabled").strip() == "Y"


def has_selinux() -> bool:
    """Report whether SELinux labels processes here: with a policy, it has a filesystem."""
    return "\tselinuxfs\n" in _reads("/proc/filesystems")


def _reads(path: str) -> str:
    try:
        return files.read_file(path)
    except KernelError:
        return ""
