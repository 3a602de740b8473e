"""Forked children in which filters are tried: a filter can't be taken off again."""

from __future__ import annotations

import ctypes
import os
import traceback
from typing import TYPE_CHECKING

import pyseccomp

from minicontainer.kernel.seccomp import load
from minicontainer.kernel.seccomp_compiler import ACTIONS, ARCHITECTURES

if TYPE_CHECKING:
    from collections.abc import Callable


KILLED_BY_SIGSYS = -31
ALLOWED = ACTIONS["SCMP_ACT_ALLOW"]
MACHINES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
OWN = ARCHITECTURES[MACHINES[os.uname().machine]]
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 38, 39
CLONE_NEWUSER = 0x10000000

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def number(name: str, arch: int = OWN) -> int:
    """Give a call's number, as libseccomp knows it."""
    return int(pyseccomp.resolve_syscall(arch, name))


def name_of(nr: int) -> str:
    """Name the call with a number; "" where the architecture has none."""
    try:
        return pyseccomp.resolve_syscall(OWN, nr).decode()  # type: ignore[no-any-return]  # untyped
    except ValueError:
        return ""


def in_child(act: Callable[[], int]) -> int:
    """Do *act* in a child and give what it returned (0 to 254), or the signal, negative."""
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            status = act()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status != 255, "the child failed: see its traceback"
    return status


def make_call(name: str, *args: int) -> Callable[[], int]:
    """Make a function that makes a system call and gives its error number, or 0."""
    words = [ctypes.c_long(number(name)), *map(ctypes.c_ulong, args)]
    return lambda: ctypes.get_errno() if libc.syscall(*words) == -1 else 0


def filtered(program: bytes, act: Callable[[], int], flags: int = 0) -> Callable[[], int]:
    """Make a function that loads *program* and then does *act*."""

    def loaded() -> int:
        load(program, flags)
        return act()

    return loaded
