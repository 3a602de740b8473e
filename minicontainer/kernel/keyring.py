"""The session keyring: secrets that the kernel keeps for a login session, or for a container.

A process inherits it from its parent, and with it the right to read what is in it: Kerberos
tickets, keys of encrypted directories.

See: keyrings(7), session-keyring(7), keyctl(2).
"""

from __future__ import annotations

from minicontainer.kernel import libc

KEYCTL_JOIN_SESSION_KEYRING = 1
KEYCTL_SETPERM = 5
# What a new keyring grants: everything to its possessors; view, read and link to its owner.
_PERMISSIONS = 0x3F130000
_KEY_USR_SEARCH = 0x080000
_KEY_OTH_SEARCH = 0x000008


def join_session(name: str) -> int:
    """Leave the session keyring for one with that name, made if it is missing; return its number.

    Raises:
        KernelError: ENOSYS if the kernel has no keyrings; EDQUOT, EACCES.
    """
    return libc.call(
        "keyctl", KEYCTL_JOIN_SESSION_KEYRING, name,
        object="process:session-keyring", after=lambda: name, shell=f"keyctl session {name}",
    )  # fmt: skip


def let_find(keyring: int, *, others: bool) -> None:
    """Let processes of the owner find a keyring by its name, to join it.

    Args:
        others: and processes of other users.
    """
    permissions = _PERMISSIONS | (_KEY_OTH_SEARCH if others else _KEY_USR_SEARCH)
    libc.call(
        "keyctl", KEYCTL_SETPERM, keyring, permissions,
        object=f"keyring:{keyring}", after=lambda: f"{permissions:#x}",
        shell=f"keyctl setperm {keyring} {permissions:#x}",
    )  # fmt: skip
