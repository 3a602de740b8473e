"""Calls into the C library: each function declared once, each failure named, each call noted."""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint, c_ulong

from minicontainer import steps
from minicontainer.errors import KernelError, shortened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Argument = int | str | bytes | ctypes.Structure | ctypes.Array[ctypes.c_char] | None

# PyDLL keeps the interpreter's lock during the call. clone3 must not return in a child whose only
# thread does not hold it, and to release and take a lock costs more than most calls do.
_libc = ctypes.PyDLL(None, use_errno=True)

# Each function with its C types, once: without them ctypes passes every int as a 32-bit one, and
# silently cuts a larger value.
_libc.mount.argtypes = (c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_libc.umount2.argtypes = (c_char_p, c_int)
_libc.socket.argtypes = (c_int, c_int, c_int)
_libc.unshare.argtypes = (c_int,)
_libc.setns.argtypes = (c_int, c_int)
_libc.setsid.argtypes = ()
_libc.syncfs.argtypes = (c_int,)
_libc.sethostname.argtypes = (c_char_p, c_size_t)
_libc.setdomainname.argtypes = (c_char_p, c_size_t)
_libc.fstatfs.argtypes = (c_int, c_char_p)
_libc.personality.argtypes = (c_ulong,)
_libc.sched_setaffinity.argtypes = (c_int, c_size_t, c_char_p)
_libc.prctl.argtypes = (c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_libc.chroot.argtypes = (c_char_p,)
_libc.fchownat.argtypes = (c_int, c_char_p, c_uint, c_uint, c_int)

# Calls for which glibc 2.36 has no function, or whose function must not be used: clone3 (glibc's
# refuses to be a fork) and capset (only libcap has it). The numbers of calls added since 2018 are
# the same on every architecture; the older ones are looked up by the machine's name.
_SYSCALL_NUMBERS = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
}
_OLDER_SYSCALL_NUMBERS = {
    "x86_64": {
        "pivot_root": 155, "capget": 125, "capset": 126, "seccomp": 317, "bpf": 321,
        "prlimit64": 302, "sched_setattr": 314, "ioprio_set": 251, "set_mempolicy": 238,
        "keyctl": 250, "rt_sigaction": 13,
    },
    "aarch64": {
        "pivot_root": 41, "capget": 90, "capset": 91, "seccomp": 277, "bpf": 280,
        "prlimit64": 261, "sched_setattr": 274, "ioprio_set": 30, "set_mempolicy": 237,
        "keyctl": 219, "rt_sigaction": 134,
    },
}  # fmt: skip
_SYSCALL_NUMBERS |= _OLDER_SYSCALL_NUMBERS.get(os.uname().machine, {})
_libc.syscall.restype = c_long


_PLAIN = (int, str)  # what an event shows as it is


def call(
    name: str,
    *args: Argument,
    object: str | None = None,
    before: str | None = None,
    after: Callable[[], str] | None = None,
    shell: str | None = None,
) -> int:
    """Call the C function *name*; or the system call, if the C library has no function for it.

    Args:
        name: as in section 2 of the manual.
        args: numbers, strings (encoded as file names are), bytes, structures (by reference), None.
        object, before, shell: for the event; see `event.Event`.
        after: reads the object's new value, once the call is made.
    Raises:
        KernelError: the call returned -1; it has the errno, its text, and the call's arguments.
    """
    result, errno = _make(name, args)
    if steps.listening():
        steps.note(
            name, tuple([arg if arg.__class__ in _PLAIN else _shown(arg) for arg in args]),
            result, errno,
            object=object, before=before, after=after() if after and not errno else None,
            shell=shell,
        )  # fmt: skip
    if result == -1:
        raise _failure(name, args, errno)
    return result


def quiet_call(name: str, *args: Argument) -> int:
    """Make a call that changes nothing but this process's descriptors; it is not noted.

    Raises:
        KernelError: as `call` does.
    """
    result, errno = _make(name, args)
    if result == -1:
        raise _failure(name, args, errno)
    return result


def _make(name: str, args: tuple[Argument, ...]) -> tuple[int, int]:
    """Make the call; return its result and errno (0 unless the result is -1)."""
    passed = [os.fsencode(arg) if isinstance(arg, str) else arg for arg in args]
    number = _SYSCALL_NUMBERS.get(name)
    if number is None:
        result = int(getattr(_libc, name)(*passed))
    else:
        result = int(_libc.syscall(c_long(number), *map(_as_register, passed)))
    return result, ctypes.get_errno() if result == -1 else 0


def _failure(name: str, args: tuple[Argument, ...], errno: int) -> KernelError:
    told = ", ".join(shortened(str(_shown(arg))) for arg in args)
    return KernelError(errno, os.strerror(errno), f"{name}({told})")


def _as_register(
    arg: int | bytes | ctypes.Structure | ctypes.Array[ctypes.c_char] | None,
) -> object:
    """Convert an argument of syscall(2), which is variadic: each is as wide as a register."""
    if isinstance(arg, int):
        return c_long(arg) if arg < 0 else c_ulong(arg)
    if arg is None or isinstance(arg, bytes):
        return c_char_p(arg)
    return ctypes.byref(arg)


def _shown(arg: Argument) -> int | str | None:
    """Convert an argument for an event: plain values as they are, structures by their fields."""
    if isinstance(arg, bytes):
        return os.fsdecode(arg)
    if isinstance(arg, ctypes.Structure):
        fields = ((name, getattr(arg, name)) for name, *_ in arg._fields_)
        return "{" + ", ".join(f"{name}={value}" for name, value in fields if value) + "}"
    if isinstance(arg, ctypes.Array):
        return f"{len(arg)} bytes"
    return arg


def fork_by(clone_args: ctypes.Structure) -> int:
    """Make the raw clone3 system call, which returns in the child too; the caller notes it.

    Args:
        clone_args: struct clone_args.
    Raises:
        KernelError: in the parent only.
    """
    number, size = _SYSCALL_NUMBERS["clone3"], ctypes.sizeof(clone_args)
    result = int(_libc.syscall(c_long(number), ctypes.byref(clone_args), c_size_t(size)))
    if result == -1:
        errno = ctypes.get_errno()
        raise KernelError(errno, os.strerror(errno), f"clone3({_shown(clone_args)})")
    return result


def before_fork() -> None:
    """Take the interpreter's locks before a raw clone, as os.fork() does."""
    ctypes.pythonapi.PyOS_BeforeFork()


def after_fork(in_child: bool) -> None:
    """Release them; in the child, also reset the interpreter's own state."""
    if in_child:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
