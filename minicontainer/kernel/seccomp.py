"""Filters of system calls: a profile's contents; its compiled program, cached by content; loading
it.

A filter is a small program that the kernel runs at every system call of a process. It gets the
call's number, its architecture and its six arguments (as numbers: it can't see what a pointer
points to). It decides whether the call is made, fails with an error, or kills the process. A loaded
filter can't be removed, and every child inherits it.

    profile ── seccomp_compiler ──> program ── load ──> the kernel
                    30 ms: so cached_program keeps the result

See: seccomp(2); runtime-spec config-linux.md "Seccomp"; kernel userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import ctypes
import os

from minicontainer.errors import InvalidArgument, KernelError
from minicontainer.kernel import libc
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
SECCOMP_FILTER_FLAG_TSYNC_ESRCH = 16
_WAIT_KILLABLE = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
# The flags that a profile may name.
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": SECCOMP_FILTER_FLAG_TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    _WAIT_KILLABLE: 32,
}

_INSTRUCTION_SIZE = 8  # bytes of one struct sock_filter
_DIGEST_SIZE = 32
ESRCH = 3


class ArgRule(Record):
    """A condition on one argument of a system call; numbers are compared as unsigned 64-bit ones.

    Args:
        index: of the argument, 0 to 5.
        value: the number to compare with; for SCMP_CMP_MASKED_EQ the mask.
        value_two: for SCMP_CMP_MASKED_EQ the expected value of the bits under the mask.
        op: SCMP_CMP_EQ and so on.
    """

    index: int
    value: int
    value_two: int = 0
    op: str


class SyscallRule(Record):
    """What happens to some system calls if all conditions hold.

    Args:
        names: of the system calls.
        action: SCMP_ACT_ALLOW and so on.
        errno_ret: the error of the call, for SCMP_ACT_ERRNO; the number for the tracer, for
            SCMP_ACT_TRACE; None for EPERM.
        args: conditions, all of which must hold.
    """

    names: tuple[str, ...]
    action: str
    errno_ret: int | None = None
    args: tuple[ArgRule, ...] = ()


class Seccomp(Record):
    """A profile: what happens to each system call.

    Args:
        default_action: for calls without a rule.
        default_errno_ret: as `SyscallRule.errno_ret`, for the default action.
        architectures: those whose calls the rules apply to, beside the machine's own; a call of any
            other architecture kills.
        flags: of seccomp(2); None for the runtime's choice.
        listener_path: the socket that gets the listener's descriptor, for SCMP_ACT_NOTIFY.
        listener_metadata: what is sent to it as well.
    """

    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] | None = None
    listener_path: str | None = None
    listener_metadata: str | None = None
    syscalls: tuple[SyscallRule, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the value as JSON holds it; made once, since it names 400 system calls."""
        kept: dict[str, Any] | None = self.__dict__.get("_json")
        if kept is None:
            kept = self.__dict__["_json"] = super().to_json()
        return kept

    def key(self) -> bytes:
        """Name the program by all that determines it: rules, order, machine; computed once."""
        kept: bytes | None = self.__dict__.get("_key")
        if kept is None:
            kept = self.__dict__["_key"] = _key(self)
        return kept


def filter_flags(profile: Seccomp) -> int:
    """Return the flags that `load` needs for a profile.

    A profile that names no flags gets SPEC_ALLOW, as with other runtimes: otherwise kernels before
    5.16 slow the process down to guard it against speculation.

    Raises:
        InvalidArgument: an unknown flag; or SCMP_ACT_NOTIFY without a socket.
    """
    if profile.flags is None:
        flags = FLAGS["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    else:
        flags = 0
        for i, name in enumerate(profile.flags):
            if name not in FLAGS:
                raise InvalidArgument(
                    f"linux.seccomp.flags[{i}]: expected one of {', '.join(FLAGS)}, got {name!r}"
                )
            flags |= FLAGS[name]
    if has_listener(profile):
        if not (profile.listener_path or "").startswith("/"):
            raise InvalidArgument(
                "linux.seccomp.listenerPath: an absolute path is required where an action is "
                f"SCMP_ACT_NOTIFY, got {profile.listener_path!r}"
            )
        flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER
        # both return a number: this flag makes the error another one
        if flags & SECCOMP_FILTER_FLAG_TSYNC:
            flags |= SECCOMP_FILTER_FLAG_TSYNC_ESRCH
    elif flags & FLAGS[_WAIT_KILLABLE]:
        raise InvalidArgument(
            f"linux.seccomp.flags: {_WAIT_KILLABLE} makes sense only with the action "
            "SCMP_ACT_NOTIFY"
        )
    elif profile.listener_metadata and not profile.listener_path:
        raise InvalidArgument(
            "linux.seccomp.listenerMetadata: must not be set without listenerPath"
        )
    return flags


def has_listener(profile: Seccomp) -> bool:
    """Report whether an agent outside answers some call: seccomp_unotify(2)."""
    actions = {profile.default_action, *(rule.action for rule in profile.syscalls)}
    return "SCMP_ACT_NOTIFY" in actions


def cached_program(profile: Seccomp, directory: str) -> bytes:
    """Return the program of a profile: the one cached by an earlier start, or a new one.

    A cached program is trusted only if no other user can have written it, if it is complete, and if
    the compiler (libseccomp, its binding, our own code) is unchanged; otherwise it is compiled
    again. Call this before anything is created, since it also finds the errors of a profile.

    Args:
        directory: the cache, with one file for each program; made if it is missing.
    Raises:
        InvalidArgument, Unsupported: of `seccomp_compiler.compile_apart`.
    """
    key = profile.key()
    path = f"{directory}/{key.hex()}.bpf"
    program = _kept(path, key)
    if program is None:
        from minicontainer.kernel import seccomp_compiler  # with libseccomp: 30 ms

        program, made_from = seccomp_compiler.compile_apart(profile)
        _keep(path, key, made_from, program)
    return program


def _key(profile: Seccomp) -> bytes:
    rules = (
        (
            rule.names,
            rule.action,
            rule.errno_ret,
            tuple((arg.index, arg.value, arg.value_two, arg.op) for arg in rule.args),
        )
        for rule in profile.syscalls
    )
    told = repr(
        (
            os.uname().machine,
            profile.default_action,
            profile.default_errno_ret,
            profile.architectures,
            *rules,
        )
    )
    return _digest(told.encode())


def _digest(data: bytes) -> bytes:
    # A cryptographic hash: nobody may be able to write two profiles with the same key. From its own
    # module, which loads in 0.07 ms; hashlib (that is, OpenSSL) takes 1.6.
    from _blake2 import blake2b

    return blake2b(data, digest_size=_DIGEST_SIZE).digest()


def _kept(path: str, key: bytes) -> bytes | None:
    """Read the program cached in *path*; return None if it is missing, or can't be trusted.

    The file has a digest of the key and of the rest; a line for each file that the program was made
    from; an empty line; the program. A truncated or renamed file has another digest.
    """
    try:
        if not _is_ours(os.stat(os.path.dirname(path))):
            return None
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(fd, "rb", buffering=0) as file:
            if not _is_ours(os.fstat(fd)):
                return None
            data = file.read()
        digest, content = data[:_DIGEST_SIZE], data[_DIGEST_SIZE:]
        if _digest(key + content) != digest:
            return None
        origins, _, program = content.partition(b"\n\n")
        for origin in os.fsdecode(origins).split("\n"):
            if _origin(origin.rsplit(" ", 4)[0]) != origin:
                return None
    except OSError:
        return None  # not cached, or a file that it was made from is gone
    return program


def _is_ours(found: os.stat_result) -> bool:
    """Report whether no other user can have changed a file or directory."""
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _origin(path: str) -> str:
    """Describe one version of a file, as make(1) would, and by ctime, which nobody can set."""
    found = os.stat(path)
    return f"{path} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def _keep(path: str, key: bytes, made_from: Iterable[str], program: bytes) -> None:
    """Write a program to *path* completely or not at all; a failure does no harm."""
    directory = os.path.dirname(path)
    aside = f"{path}.{os.getpid()}"
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        if not _is_ours(os.stat(directory)):
            return  # `_kept` would not trust it, and other users could put a link there
        content = os.fsencode("\n".join(map(_origin, made_from))) + b"\n\n" + program
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            with open(fd, "wb", buffering=0) as file:
                file.write(_digest(key + content) + content)
            os.rename(aside, path)
        except OSError:
            os.unlink(aside)
    except OSError:
        return  # a full or read-only disk makes starts slow, but must not make them fail


class SockFprog(ctypes.Structure):
    """A program as seccomp(2) takes it: struct sock_fprog."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def load(program: bytes, flags: int) -> int:
    """Put this process, and all its future children, under a filter, irrevocably.

    Args:
        program: from `compile_profile`.
        flags: SECCOMP_FILTER_FLAG_*, from `filter_flags`.
    Returns:
        the listener's descriptor with SECCOMP_FILTER_FLAG_NEW_LISTENER, otherwise 0.
    Raises:
        KernelError: EACCES without CAP_SYS_ADMIN unless no_new_privs is set; EINVAL for an invalid
            program, or more than 4096 instructions; ESRCH if a thread of this process could not
            follow (TSYNC).
    See: seccomp(2).
    """
    code = ctypes.create_string_buffer(program, len(program))
    given = SockFprog(len(program) // _INSTRUCTION_SIZE, ctypes.addressof(code))
    result = libc.call("seccomp", SECCOMP_SET_MODE_FILTER, flags, given, object="process:seccomp")
    if result > 0 and not flags & SECCOMP_FILTER_FLAG_NEW_LISTENER:
        # the number of a thread that has a filter of its own: nothing was loaded
        raise KernelError(ESRCH, os.strerror(ESRCH), f"seccomp(TSYNC): thread {result}")
    return result
