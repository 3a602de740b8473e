"""Filters, loaded for real in a child; compiled programs, against what the profile says."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from minicontainer import steps
from minicontainer.errors import KernelError
from minicontainer.event import Event
from minicontainer.kernel import seccomp
from minicontainer.kernel.seccomp import Seccomp, SyscallRule, load
from minicontainer.kernel.seccomp_compiler import compile_profile
from minicontainer.runtime.config.seccomp_profile import default_profile
from tests.kernel.seccomp_child import (
    CLONE_NEWUSER,
    KILLED_BY_SIGSYS,
    PR_GET_NO_NEW_PRIVS,
    PR_SET_NO_NEW_PRIVS,
    filtered,
    in_child,
    libc,
    make_call,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="CAP_SYS_ADMIN: run as root")

if TYPE_CHECKING:
    pass


# What the default profile refuses, with arguments that the kernel itself answers in another way.
REFUSED = [
    ("mount", 0, 0, 0, 0, 0),
    ("umount2", 0, 0),
    ("unshare", CLONE_NEWUSER),
    ("setns", 2**31, 0),
    ("keyctl", 0, 2**31, 0),
    ("bpf", 0, 0, 0),
    ("io_uring_setup", 0, 0),
    ("perf_event_open", 0, 0, 0, 0, 0),
    ("open_by_handle_at", 2**31, 0, 0),
    ("personality", 0x0040000),  # ADDR_NO_RANDOMIZE
    ("socket", socket.AF_VSOCK, socket.SOCK_STREAM, 0),
    ("socket", socket.AF_VSOCK | 2**32, socket.SOCK_STREAM, 0),  # of which the kernel takes 32 bits
    ("clone", CLONE_NEWUSER | 17, 0, 0, 0, 0),
]


@needs_root
@pytest.mark.parametrize("call", REFUSED, ids=lambda call: f"{call[0]}-{call[1]:#x}")
def test_the_default_profile_refuses(default_program: bytes, call: tuple[Any, ...]) -> None:
    """EPERM, where the kernel would have done it or complained of something else."""
    refused = make_call(*call)
    assert in_child(filtered(default_program, refused)) == errno.EPERM
    assert in_child(refused) != errno.EPERM, "the control: without the filter"


@needs_root
def test_the_default_profile_hides_clone3(default_program: bytes) -> None:
    """C libraries fall back to clone(2) at ENOSYS alone; without the filter it is EINVAL."""
    clone3 = make_call("clone3", 0, 0)
    assert in_child(filtered(default_program, clone3)) == errno.ENOSYS
    assert in_child(clone3) == errno.EINVAL


@needs_root
@pytest.mark.parametrize(
    "call",
    [
        ("personality", 0),
        ("personality", 0xFFFFFFFF),
        ("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0),
        ("sysinfo", ctypes.addressof(ctypes.create_string_buffer(256))),
        ("sched_yield",),
    ],
    ids=lambda call: f"{call[0]}-{len(call)}",
)
def test_the_default_profile_allows(default_program: bytes, call: tuple[Any, ...]) -> None:
    """What programs do every day."""
    assert in_child(filtered(default_program, make_call(*call))) == 0


@needs_root
def test_a_filtered_process_can_fork(default_program: bytes) -> None:
    """clone(2) without a flag for a namespace."""
    assert in_child(filtered(default_program, lambda: in_child(lambda: 7))) == 7


@needs_root
@pytest.mark.parametrize(
    ("capability", "call", "kernels_answer"),
    [
        ("CAP_SYS_ADMIN", ("mount", 0, 0, 0, 0, 0), errno.EINVAL),
        ("CAP_SYS_ADMIN", ("clone3", 0, 0), errno.EINVAL),
        ("CAP_BPF", ("bpf", 0, 0, 0), errno.EINVAL),
        ("CAP_SYS_CHROOT", ("chroot", 0), errno.EFAULT),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_capability_opens_its_calls(
    capability: str, call: tuple[Any, ...], kernels_answer: int
) -> None:
    """The call gets to the kernel, which then judges it."""
    tried = make_call(*call)
    unfiltered = in_child(tried)
    program = compile_profile(default_profile([capability]))
    assert in_child(filtered(program, tried)) == unfiltered
    assert unfiltered in (kernels_answer, errno.EFAULT)


# --- who may load ---------------------------------------------------------------------------


def _become_nobody() -> None:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)


@needs_root
def test_a_privileged_process_needs_no_new_privs_not(default_program: bytes) -> None:
    """CAP_SYS_ADMIN is enough, and no_new_privs stays as it was: setuid programs still work."""

    def act() -> int:
        load(default_program, 0)
        return int(libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))

    assert in_child(act) == 0


@needs_root
def test_an_unprivileged_process_needs_no_new_privs(default_program: bytes) -> None:
    """Otherwise it could lie to a setuid program: EACCES, and nothing is loaded."""

    def act() -> int:
        _become_nobody()
        try:
            load(default_program, 0)
        except KernelError as error:
            return error.errno or 0
        return 0

    assert in_child(act) == errno.EACCES


@needs_root
def test_no_new_privs_is_enough_for_an_unprivileged_process(default_program: bytes) -> None:
    """As nobody, without a capability; the filter answers ENOSYS where the kernel says EINVAL."""
    clone3 = make_call("clone3", 0, 0)

    def act() -> int:
        _become_nobody()
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        load(default_program, 0)
        return clone3()

    assert in_child(act) == errno.ENOSYS


@needs_root
@pytest.mark.parametrize("program", [b"", b"\0" * 8, b"\xff" * 16], ids=["empty", "load", "junk"])
def test_what_is_no_program_is_refused(program: bytes) -> None:
    """The kernel checks each instruction, and that the program ends."""

    def act() -> int:
        try:
            load(program, 0)
        except KernelError as error:
            return error.errno or 0
        return 0

    assert in_child(act) == errno.EINVAL


@needs_root
def test_loading_is_noted(default_program: bytes) -> None:
    """One event, with the process's filter as its object."""

    def act() -> int:
        events: list[Event] = []
        steps.listen(events.append, "init")
        load(default_program, 0)
        return [(event.call, event.object) for event in events] == [("seccomp", "process:seccomp")]

    assert in_child(act) == 1


# --- actions, flags, the listener -----------------------------------------------------------


@needs_root
@pytest.mark.parametrize(
    ("action", "errno_ret", "expected"),
    [
        ("SCMP_ACT_ERRNO", None, errno.EPERM),
        ("SCMP_ACT_ERRNO", 71, 71),
        ("SCMP_ACT_KILL", None, KILLED_BY_SIGSYS),
        ("SCMP_ACT_KILL_THREAD", None, KILLED_BY_SIGSYS),
        ("SCMP_ACT_KILL_PROCESS", None, KILLED_BY_SIGSYS),
        ("SCMP_ACT_TRAP", None, KILLED_BY_SIGSYS),
        ("SCMP_ACT_TRACE", None, errno.ENOSYS),  # nobody traces
        ("SCMP_ACT_LOG", None, 0),
        ("SCMP_ACT_ALLOW", None, 0),
    ],
)
@pytest.mark.oci("linux.seccomp.syscalls[].action", "linux.seccomp.syscalls[].errnoRet")
def test_each_action_does_what_it_says(action: str, errno_ret: int | None, expected: int) -> None:
    """On one harmless call, in a profile that allows all others."""
    rule = SyscallRule(names=("sched_yield",), action=action, errno_ret=errno_ret)
    program = compile_profile(Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=(rule,)))
    assert in_child(filtered(program, make_call("sched_yield"))) == expected


# push rbx; mov eax, edi; int 0x80; pop rbx; ret: a system call of a 32-bit program
INT_0X80 = bytes.fromhex("53 89f8 cd80 5b c3")
YIELD_32 = 158  # sched_yield(2), to i386


def yield_as_32_bits() -> int:
    """Make a call as 32-bit programs do, which a 64-bit one can too; give its error, or 0."""
    code = mmap.mmap(-1, len(INT_0X80), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(INT_0X80)
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return -int(ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(address)(YIELD_32))


@needs_root
@pytest.mark.oci("linux.seccomp.architectures")
def test_a_program_of_another_architecture() -> None:
    """Filtered by that one's numbers where it is listed; where it is not, killed."""
    if os.uname().machine != "x86_64" or in_child(yield_as_32_bits) != 0:
        pytest.skip("needs an x86-64 processor, and a kernel that runs 32-bit programs too")
    rule = SyscallRule(names=("sched_yield",), action="SCMP_ACT_ERRNO", errno_ret=71)
    for listed, expected in (
        (("SCMP_ARCH_X86_64", "SCMP_ARCH_X86"), 71),
        (("SCMP_ARCH_X86_64",), KILLED_BY_SIGSYS),
    ):
        profile = Seccomp(default_action="SCMP_ACT_ALLOW", architectures=listed, syscalls=(rule,))
        program = compile_profile(profile)
        assert in_child(filtered(program, yield_as_32_bits)) == expected, listed
        assert in_child(filtered(program, make_call("sched_yield"))) == 71, listed


@needs_root
@pytest.mark.oci("linux.seccomp.flags")
def test_a_notifying_profile_gives_a_listener() -> None:
    """A descriptor on which another process could hear of each call."""
    rule = SyscallRule(names=("sched_yield",), action="SCMP_ACT_NOTIFY")
    profile = Seccomp(
        default_action="SCMP_ACT_ALLOW", syscalls=(rule,), listener_path="/run/a.sock",
        flags=("SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"),
    )  # fmt: skip
    program = compile_profile(profile)

    def act() -> int:
        listener = load(program, seccomp.filter_flags(profile))
        return "seccomp notify" in os.readlink(f"/proc/self/fd/{listener}")

    assert in_child(act) == 1


def test_flags_are_summed_up() -> None:
    """By default those of other runtimes; named ones as <linux/seccomp.h> numbers them."""
    profile = Seccomp(default_action="SCMP_ACT_ALLOW")
    assert seccomp.filter_flags(profile) == 4
    assert seccomp.filter_flags(profile.replace(flags=())) == 0
    named = ("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC")
    assert seccomp.filter_flags(profile.replace(flags=named)) == 3
