"""Compile a profile of system calls to BPF, through libseccomp.

This is not in `seccomp` because most containers start without it: their program is cached.
See: seccomp_rule_add(3); kernel userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import ctypes
import os

from minicontainer.errors import InvalidArgument, Unsupported
from minicontainer.kernel import pidfds, process, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from minicontainer.kernel.seccomp import Seccomp, SyscallRule

# The answers of a filter, as the kernel numbers them: <linux/seccomp.h>.
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")  # it is in the low 16 bits of the answer
_PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY")

# <seccomp.h>, enum scmp_compare.
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}

# AUDIT_ARCH_* of <linux/audit.h>: the ELF machine, and the bits that distinguish its variants. x32
# is not one of the kernel's (it is x86_64 with a bit set in the call's number) but one of
# libseccomp's.
_64BIT, _LE, _N32 = 0x80000000, 0x40000000, 0x20000000
ARCHITECTURES = {
    "SCMP_ARCH_X86": 3 | _LE,
    "SCMP_ARCH_X86_64": 62 | _64BIT | _LE,
    "SCMP_ARCH_X32": 62 | _LE,
    "SCMP_ARCH_ARM": 40 | _LE,
    "SCMP_ARCH_AARCH64": 183 | _64BIT | _LE,
    "SCMP_ARCH_MIPS": 8,
    "SCMP_ARCH_MIPS64": 8 | _64BIT,
    "SCMP_ARCH_MIPS64N32": 8 | _64BIT | _N32,
    "SCMP_ARCH_MIPSEL": 8 | _LE,
    "SCMP_ARCH_MIPSEL64": 8 | _64BIT | _LE,
    "SCMP_ARCH_MIPSEL64N32": 8 | _64BIT | _LE | _N32,
    "SCMP_ARCH_PPC": 20,
    "SCMP_ARCH_PPC64": 21 | _64BIT,
    "SCMP_ARCH_PPC64LE": 21 | _64BIT | _LE,
    "SCMP_ARCH_S390": 22,
    "SCMP_ARCH_S390X": 22 | _64BIT,
    "SCMP_ARCH_PARISC": 15,
    "SCMP_ARCH_PARISC64": 15 | _64BIT,
    "SCMP_ARCH_RISCV64": 243 | _64BIT | _LE,
    "SCMP_ARCH_LOONGARCH64": 258 | _64BIT | _LE,
    "SCMP_ARCH_M68K": 4,
    "SCMP_ARCH_SH": 42 | _LE,
    "SCMP_ARCH_SHEB": 42,
}
_X86_64, _X32 = ARCHITECTURES["SCMP_ARCH_X86_64"], ARCHITECTURES["SCMP_ARCH_X32"]
_X32_BIT = 0x40000000

EPERM, ENOSYS = 1, 38
_MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS
PATIENCE_S = 20
_FAILURES = {"InvalidArgument": InvalidArgument, "Unsupported": Unsupported}


def check(profile: Seccomp) -> None:
    """Refuse a profile that makes no sense on any host.

    Raises:
        InvalidArgument: it names the JSON path and what was expected there.
    """
    at = "linux.seccomp"
    action, errno = profile.default_action, profile.default_errno_ret
    _check_action(action, errno, f"{at}.defaultAction", f"{at}.defaultErrnoRet")
    for i, name in enumerate(profile.architectures):
        _looked_up(ARCHITECTURES, name, f"{at}.architectures[{i}]")
    for i, rule in enumerate(profile.syscalls):
        _check_rule(rule, f"{at}.syscalls[{i}]")


def _check_rule(rule: SyscallRule, at: str) -> None:
    if not rule.names or "" in rule.names:
        raise InvalidArgument(f"{at}.names: expected the names of system calls")
    _check_action(rule.action, rule.errno_ret, f"{at}.action", f"{at}.errnoRet")
    for i, arg in enumerate(rule.args):
        _looked_up(OPERATORS, arg.op, f"{at}.args[{i}].op")
        for field, number, most in (
            ("index", arg.index, 5),
            ("value", arg.value, 2**64 - 1),
            ("valueTwo", arg.value_two, 2**64 - 1),
        ):
            if not 0 <= number <= most:
                raise InvalidArgument(f"{at}.args[{i}].{field}: expected 0 to {most}, got {number}")


def _check_action(action: str, errno: int | None, action_at: str, errno_at: str) -> None:
    _looked_up(ACTIONS, action, action_at)
    if errno is None:
        return
    if action not in _WITH_ERRNO:
        raise InvalidArgument(f"{errno_at}: {action} can't carry an error number")
    if not 0 <= errno <= 0xFFFF:  # more bits would be cut, and 65536 would then mean success
        raise InvalidArgument(f"{errno_at}: expected 0 to 65535, got {errno}")


def _looked_up(table: dict[str, int], name: str, at: str) -> int:
    if name not in table:
        raise InvalidArgument(f"{at}: expected one of {', '.join(table)}, got {name!r}")
    return table[name]


def _answer(action: str, errno: int | None) -> int:
    """Return the number with which a filter answers."""
    if action in _WITH_ERRNO:
        return ACTIONS[action] | (EPERM if errno is None else errno)
    return ACTIONS[action]


def compile_apart(profile: Seccomp, timeout_s: int = PATIENCE_S) -> tuple[bytes, tuple[str, ...]]:
    """Compile a profile in a child: libseccomp (2.5.4) needs minutes for some profiles.

    For each rule with conditions it walks through all rules of that call. The kernel can kill a
    child whatever it does; and libseccomp's memory is freed with it.

    Returns:
        the results of `compile_profile` and `made_from`.
    Raises:
        InvalidArgument, Unsupported: of those; or it takes too long.
    """
    reader, writer = os.pipe()
    pid = process.fork()
    if pid == 0:
        _tell(profile, timeout_s, writer)
    os.close(writer)
    with open(reader, "rb") as file:
        told = file.read()
    status = pidfds.wait_exit(pid)
    if status == 128 + signals.SIGALRM:
        raise InvalidArgument(
            f"linux.seccomp.syscalls: libseccomp needs more than {timeout_s} s for these rules: "
            "those with conditions (args) for one and the same call should be fewer"
        )
    kind, _, content = told.partition(b"\n")
    if kind != b"program":
        failure = _FAILURES.get(kind.decode(), Unsupported)
        raise failure(content.decode() or f"compiling the seccomp profile ended with {status}")
    origins, _, program = content.partition(b"\n\n")
    return program, tuple(os.fsdecode(origins).split("\n"))


def _tell(profile: Seccomp, timeout_s: int, writer: int) -> NoReturn:
    """Compile; write the program, or the error."""
    try:
        signals.handle(signals.SIGALRM, signals.SIG_DFL)
        signals.unblock((signals.SIGALRM,))
        signals.alarm(timeout_s)
        program = compile_profile(profile)
        told = b"program\n" + os.fsencode("\n".join(made_from())) + b"\n\n" + program
    except BaseException as error:  # the process ends here, and its parent says why
        known = type(error).__name__ in _FAILURES
        text = str(error) if known else f"{type(error).__name__}: {error}"
        told = f"{type(error).__name__}\n{text}".encode(errors="replace")
    with open(writer, "wb") as file:
        file.write(told)
    os._exit(0)


def compile_profile(profile: Seccomp) -> bytes:
    """Compile a profile to a BPF program for this machine.

    System calls that libseccomp does not know are ignored: a profile may be newer than it. If
    several rules for one call have conditions, libseccomp (2.5) joins them into one tree, and makes
    errors in both directions: when they order numbers above 32 bits, or when each has several
    conditions with other operators than EQ and MASKED_EQ. Call this before the root changes, since
    it loads the host's libseccomp (2.5 or later).

    Returns:
        an array of struct sock_filter.
    Raises:
        InvalidArgument: the profile makes no sense, or its rules contradict each other.
        Unsupported: libseccomp or its binding is missing.
    """
    check(profile)
    binding = _binding()
    default = _answer(profile.default_action, profile.default_errno_ret)
    rules = binding.SyscallFilter(default)
    for i, name in enumerate(profile.architectures):
        _add_architecture(rules, name, f"linux.seccomp.architectures[{i}]")
    # A tree instead of a chain of comparisons: fewer for each call, and a quicker load, in which
    # the kernel tries every call. libseccomp up to 2.5.4 fails with a tree of nothing.
    if sum(len(rule.names) for rule in profile.syscalls) > 32:
        rules.set_attr(binding.Attr.CTL_OPTIMIZE, 2)
    for i, rule in enumerate(profile.syscalls):
        answer = _answer(rule.action, rule.errno_ret)
        if answer != default:  # libseccomp would refuse a rule that changes nothing
            _add_rule(binding, rules, rule, answer, f"linux.seccomp.syscalls[{i}]")
    with open(os.memfd_create("seccomp"), "w+b") as file:
        rules.export_bpf(file)
        file.seek(0)
        program = _enosys_prelude(binding, profile) + file.read()
    instructions = len(program) // ctypes.sizeof(SockFilter)
    if instructions > _MOST_INSTRUCTIONS:
        raise InvalidArgument(
            f"linux.seccomp.syscalls: these rules compile to {instructions} instructions, and the "
            f"kernel takes {_MOST_INSTRUCTIONS}: use fewer conditions (args)"
        )
    return program


def _binding() -> Any:
    try:
        import pyseccomp  # 20 ms: it runs the linker's search for libseccomp
    except (ImportError, RuntimeError) as error:
        raise Unsupported(
            f"can't compile a seccomp profile: {error}: install libseccomp2 and pyseccomp"
        ) from None
    return pyseccomp


def _add_architecture(rules: Any, name: str, at: str) -> None:
    try:
        rules.add_arch(ARCHITECTURES[name])
    except FileExistsError:
        pass  # the machine's own is there from the start
    except OSError as error:
        raise InvalidArgument(
            f"{at}: libseccomp can't filter {name} on this machine: {error.strerror}"
        ) from None


def _add_rule(binding: Any, rules: Any, rule: SyscallRule, answer: int, at: str) -> None:
    conditions = [
        binding.Arg(arg.index, OPERATORS[arg.op], arg.value, arg.value_two) for arg in rule.args
    ]
    # Two conditions on one argument are alternatives, each a rule of its own. Runtimes have read
    # them so since before libseccomp could join conditions, and profiles rely on it.
    alternatives = [conditions]
    if len({arg.index for arg in rule.args}) < len(rule.args):
        alternatives = [[condition] for condition in conditions]
    for name in rule.names:
        number = binding.resolve_syscall(binding.Arch.NATIVE, name)
        if number == -1:
            continue
        for alternative in alternatives:
            try:
                rules.add_rule(answer, number, *alternative)
            except OSError as error:
                raise InvalidArgument(
                    f"{at}: libseccomp refused the rule for {name}: {error.strerror}: "
                    "look for another rule with the same conditions"
                ) from None


def _enosys_prelude(binding: Any, profile: Seccomp) -> bytes:
    """Make instructions that answer ENOSYS for calls newer than the profile.

    A C library tries the newest call first, and uses an older one after ENOSYS. But it believes
    EPERM, which a profile gives for a call that its author could not know. A call counts as newer
    if its number is higher than that of every call in the profile.
    """
    if profile.default_action in _PERMISSIVE:
        return b""
    own = binding.system_arch()
    listed = {own: None, **{ARCHITECTURES[name]: None for name in profile.architectures}}
    code = b""
    for arch in listed:
        numbers = (
            binding.resolve_syscall(arch, name) for rule in profile.syscalls for name in rule.names
        )
        newest = max(numbers, default=-1)
        if newest >= 0:
            code += _enosys_above(arch, newest)
    return code


def _enosys_above(arch: int, newest: int) -> bytes:
    kernels_arch = _X86_64 if arch == _X32 else arch
    most = _X32_BIT - 1 if arch == _X86_64 else 0xFFFFFFFF
    load_word, jump_equal, jump_greater, answer = 0x20, 0x15, 0x25, 0x06
    return b"".join(
        (
            _instruction(load_word, 4),  # seccomp_data.arch
            _instruction(jump_equal, kernels_arch, when_false=4),
            _instruction(load_word, 0),  # seccomp_data.nr
            _instruction(jump_greater, newest, when_false=2),
            _instruction(jump_greater, most, when_true=1),
            _instruction(answer, ACTIONS["SCMP_ACT_ERRNO"] | ENOSYS),
        )
    )


class SockFilter(ctypes.Structure):
    """One instruction: struct sock_filter."""

    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


def _instruction(code: int, k: int, *, when_true: int = 0, when_false: int = 0) -> bytes:
    """Encode one instruction; a jump counts the instructions that it skips."""
    return bytes(SockFilter(code, when_true, when_false, k))


def made_from() -> tuple[str, ...]:
    """List the files that determine what a profile compiles to: libseccomp, its binding, this one.

    Debian updates a library without a new version number, so the files themselves are compared.
    """
    with open("/proc/self/maps") as maps:
        fields = (line.split(maxsplit=5) for line in maps)
        library = next(row[5].strip() for row in fields if "/libseccomp.so" in row[-1])
    return library, _binding().__file__, __file__
