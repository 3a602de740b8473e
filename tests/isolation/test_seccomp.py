"""The system call filter: seccomp(2). Its table is tested in tests/unit and tests/kernel."""

from __future__ import annotations

import pytest

from tests.conftest import Run

from .conftest import HOST_PYTHON, leaks, parse_status, python, status_of

EPERM, ENOSYS = 1, 38
CLONE_NEWUSER = 0x10000000
AF_VSOCK = 40

# Makes a call by its name in libc; says 0, or the error's number.
_CALL = (
    "import ctypes; library = ctypes.CDLL(None, use_errno=True);"
    "print(ctypes.get_errno() if library.{call} == -1 else 0)"
)
KEYCTL = "syscall(250, 0, -3, 0)"  # KEYCTL_GET_KEYRING_ID of the session: harmless
UNSHARE = f"unshare({CLONE_NEWUSER})"  # needs no capability: what refuses it is the filter
MOUNT = "mount(b'none', b'/mnt', b'tmpfs', 0, None)"
VSOCK = f"socket({AF_VSOCK}, 1, 0)"
CLONE3 = "syscall(435, 0, 0)"
PERSONALITY = "personality(0x0400000)"  # ADDR_NO_RANDOMIZE is none of those that are allowed


def _errno(run: Run, call: str, *options: str) -> int:
    return int(run(python(_CALL.format(call=call)), *HOST_PYTHON, *options).output)


def test_the_kernel_says_that_a_filter_is_loaded(run: Run) -> None:
    """Mode 2, one filter; from outside and from inside."""
    pid = run.start("echo ready; sleep 60").pid
    status = status_of(pid)
    assert leaks(pid, "seccomp") == {}
    assert (status["Seccomp"], status["Seccomp_filters"]) == ("2", "1")
    assert parse_status(run("cat /proc/self/status").output)["Seccomp"] == "2"


def test_privileged_has_none(run: Run) -> None:
    """The control."""
    pid = run.start("echo ready; sleep 60", "--privileged").pid
    assert status_of(pid)["Seccomp"] == "0"
    assert leaks(pid, "seccomp").keys() == {"filter"}


def test_no_new_privileges_changes_nothing_about_it(run: Run) -> None:
    """It is loaded at another moment, for any user."""
    asked = ("--security-opt", "no-new-privileges")
    for options in (asked, (*asked, "--user", "1000")):
        assert status_of(run.start("echo ready; sleep 60", *options).pid)["Seccomp"] == "2"
    assert _errno(run, UNSHARE, *asked) == EPERM


@pytest.mark.parametrize("call", [KEYCTL, UNSHARE, MOUNT, PERSONALITY])
def test_a_call_is_refused(run: Run, call: str) -> None:
    """EPERM, from the filter: a user namespace and a keyring need no capability."""
    assert _errno(run, call) == EPERM


@pytest.mark.parametrize("call", [KEYCTL, UNSHARE, MOUNT, PERSONALITY])
def test_without_the_filter_it_is_not(run: Run, call: str) -> None:
    """The control: the same calls, privileged. (A sandbox's host may refuse some by itself.)"""
    assert _errno(run, call, "--privileged") == 0


@pytest.mark.parametrize(("call", "expected"), [(KEYCTL, EPERM), (MOUNT, 0), (UNSHARE, 0)])
def test_what_a_capability_allows(run: Run, call: str, expected: int) -> None:
    """CAP_SYS_ADMIN opens mount(2) and unshare(2); keyrings know no namespaces and stay shut."""
    assert _errno(run, call, "--cap-add", "SYS_ADMIN") == expected


def test_clone3_does_not_exist(run: Run) -> None:
    """Its flags lie behind a pointer; ENOSYS makes libraries fall back to clone(2)."""
    assert _errno(run, CLONE3) == ENOSYS


def test_the_hypervisor_can_not_be_called(run: Run) -> None:
    """A socket of its family crosses network namespaces; an ordinary one is allowed."""
    assert _errno(run, VSOCK) != 0
    assert _errno(run, "socket(2, 1, 0)") == 0
