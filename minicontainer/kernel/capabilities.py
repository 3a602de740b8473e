"""Capabilities: names and bits, and the five sets of a process.

See: capabilities(7).
"""

from __future__ import annotations

import ctypes

import _prctl  # see `process`

from minicontainer import steps
from minicontainer.errors import KernelError
from minicontainer.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# In the order of their bits: linux/capability.h.
NAMES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
    "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
BITS = {name: bit for bit, name in enumerate(NAMES)}

_VERSION_3 = 0x20080522
_MOST_CAPABILITIES = 64  # the bits in a set
_PR_CAP_AMBIENT = 47
_AMBIENT = {"PR_CAP_AMBIENT_RAISE": 2, "PR_CAP_AMBIENT_CLEAR_ALL": 4}


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    """Two struct __user_cap_data_struct: the low words of each set, then the high ones."""

    _fields_ = tuple(
        (f"{kind}{word}", ctypes.c_uint32)
        for word in (0, 1)
        for kind in ("effective", "permitted", "inheritable")
    )


def mask_of(names: Iterable[str]) -> int:
    """Turn capability names into bits; a name that the kernel does not know has none."""
    return sum(1 << BITS[name] for name in set(names) if name in BITS)


def names_in(mask: int) -> tuple[str, ...]:
    """Turn bits into capability names."""
    return tuple(name for bit, name in enumerate(NAMES) if mask >> bit & 1)


def own_bounding() -> int:
    """Read this process's bounding set: PR_CAPBSET_READ, one capability at a time.

    /proc/self/status has it too, but inside a container that may be any file of the image.
    """
    found = 0
    for bit in range(_MOST_CAPABILITIES):
        try:
            # by number: python-prctl refuses a capability that is newer than itself
            found |= libc.quiet_call("prctl", _prctl.PR_CAPBSET_READ, bit, 0, 0, 0) << bit
        except KernelError:  # EINVAL: beyond the last one of this kernel
            break
    return found


def own_sets() -> dict[str, int]:
    """Read this process's effective, permitted and inheritable sets: capget(2)."""
    data = _Data()
    libc.quiet_call("capget", _Header(version=_VERSION_3, pid=0), data)
    return {
        kind: getattr(data, f"{kind}0") | getattr(data, f"{kind}1") << 32
        for kind in ("effective", "permitted", "inheritable")
    }


def holds(name: str) -> bool:
    """Report whether a capability is in this process's effective set."""
    return bool(own_sets()["effective"] & mask_of((name,)))


def limit_bounding(keep: int) -> None:
    """Drop every capability that is not in *keep* from the bounding set, irrevocably.

    Args:
        keep: bits. A bit that is not in the set now is ignored.
    Raises:
        KernelError: EPERM without CAP_SETPCAP.
    """
    held = own_bounding()
    for bit in range(held.bit_length()):
        if held >> bit & 1 and not keep >> bit & 1:
            _drop_bounding(bit)


def _drop_bounding(bit: int) -> None:
    name = NAMES[bit] if bit < len(NAMES) else str(bit)

    def act() -> None:
        if bit <= _prctl.CAP_LAST_CAP:
            _prctl.prctl(_prctl.PR_CAPBSET_DROP, bit)
        else:  # of a newer kernel
            libc.quiet_call("prctl", _prctl.PR_CAPBSET_DROP, bit, 0, 0, 0)

    steps.noted(
        "prctl", ("PR_CAPBSET_DROP", name), act,
        object=f"capability:bounding:{name}", shell=f"capsh --drop={name.lower()}",
    )  # fmt: skip


def set_sets(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2): set three of the sets at once; they may shrink, but not grow.

    Args:
        effective, permitted, inheritable: bits.
    Raises:
        KernelError: EPERM for a capability that is not permitted now.
    """
    data = _Data(
        *(
            word & 0xFFFFFFFF
            for shift in (0, 32)
            for word in (effective >> shift, permitted >> shift, inheritable >> shift)
        )
    )
    libc.call(
        "capset", _Header(version=_VERSION_3, pid=0), data, object="capability:sets",
        before=_held() if steps.listening() else None, after=_held,
        shell=f"capsh --caps='{_text(effective, permitted, inheritable)}'",
    )  # fmt: skip


def _held() -> str:
    held = own_sets()
    return " ".join(f"{kind}={held[kind]:#x}" for kind in ("effective", "permitted", "inheritable"))


_MOST_IN_CLAUSE = 3  # so that a line fits 80 columns


def _text(effective: int, permitted: int, inheritable: int) -> str:
    """Format three sets as cap_from_text(3) reads them: cap_chown,cap_kill+ep.

    A set of more than a few capabilities has several clauses, a line each.
    """
    clauses: dict[int, str] = {}
    for flag, mask in (("e", effective), ("p", permitted), ("i", inheritable)):
        clauses[mask] = clauses.get(mask, "") + flag
    clauses.pop(0, None)
    lines = [
        f"{','.join(names[first : first + _MOST_IN_CLAUSE]).lower()}+{flags}"
        for names, flags in ((names_in(mask), flags) for mask, flags in clauses.items())
        for first in range(0, len(names), _MOST_IN_CLAUSE)
    ]
    return "\n".join(lines) or "="


def set_ambient(mask: int) -> None:
    """Set the ambient set to exactly *mask*: any user keeps it over execve(2) of ordinary programs.

    Raises:
        KernelError: EPERM for one that is not both permitted and inheritable.
    """
    _prctl_ambient("PR_CAP_AMBIENT_CLEAR_ALL", 0)
    for name in names_in(mask):
        _prctl_ambient("PR_CAP_AMBIENT_RAISE", BITS[name], name)


def _prctl_ambient(operation: str, bit: int, *name: str) -> None:
    """Call prctl(2) by number, since python-prctl has no function for it; note it by name."""
    steps.noted(
        "prctl", ("PR_CAP_AMBIENT", operation, *name),
        lambda: libc.quiet_call("prctl", _PR_CAP_AMBIENT, _AMBIENT[operation], bit, 0, 0),
        object=":".join(("capability:ambient", *name)),
    )  # fmt: skip
