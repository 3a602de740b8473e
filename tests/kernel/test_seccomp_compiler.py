"""Compiled programs decide as their profiles say; bad profiles are refused by their path."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicontainer.errors import InvalidArgument
from minicontainer.kernel import seccomp, seccomp_compiler
from minicontainer.kernel.seccomp import ArgRule, Seccomp, SyscallRule
from minicontainer.kernel.seccomp_compiler import (
    ACTIONS,
    ARCHITECTURES,
    compile_apart,
    compile_profile,
)
from minicontainer.runtime.config.seccomp_profile import default_profile
from tests.kernel.seccomp_child import ALLOWED, OWN, filtered, in_child, make_call, name_of, number

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="CAP_SYS_ADMIN: run as root")

if TYPE_CHECKING:
    pass


def decide(program: bytes, arch: int, nr: int, args: tuple[int, ...] = ()) -> int:
    """Run a filter's program as the kernel would, on one call; see the classic BPF of bpf(4)."""
    data = struct.pack("=IIQ6Q", nr & 0xFFFFFFFF, arch, 0, *args, *[0] * (6 - len(args)))
    code = [*struct.iter_unpack("=HBBI", program)]
    a, at = 0, 0
    while True:
        op, if_true, if_false, k = code[at]
        at += 1
        match op:
            case 0x20:  # ld [k]
                (a,) = struct.unpack_from("=I", data, k)
            case 0x54:  # and k
                a &= k
            case 0x05:  # ja k
                at += k
            case 0x15 | 0x25 | 0x35 | 0x45:  # jeq, jgt, jge, jset
                holds = {0x15: a == k, 0x25: a > k, 0x35: a >= k, 0x45: bool(a & k)}[op]
                at += if_true if holds else if_false
            case 0x06:  # ret k
                return int(k)
            case _:
                raise AssertionError(f"an instruction that libseccomp does not use: {op:#x}")


def holds(arg: ArgRule, value: int) -> bool:
    """Say whether a condition holds, as libseccomp documents it."""
    match arg.op.removeprefix("SCMP_CMP_"):
        case "NE":
            return value != arg.value
        case "LT":
            return value < arg.value
        case "LE":
            return value <= arg.value
        case "EQ":
            return value == arg.value
        case "GE":
            return value >= arg.value
        case "GT":
            return value > arg.value
        case _:
            return value & arg.value == arg.value_two


NAMES = [name for nr in range(335) for name in [name_of(nr)] if name]
SMALL = st.integers(0, 5)
NUMBERS = st.one_of(SMALL, st.sampled_from([2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1]))
EVERY_OPERATOR = [*seccomp_compiler.OPERATORS]
Rules = list[tuple[ArgRule, ...]]


@st.composite
def conditions(
    draw: st.DrawFn, operators: list[str], numbers: st.SearchStrategy[int], most: int
) -> tuple[ArgRule, ...]:
    """Make up to *most* conditions, each on an argument of its own."""
    made = []
    for i in draw(st.lists(st.integers(0, 5), unique=True, max_size=most)):
        value, op = draw(numbers), draw(st.sampled_from(operators))
        made.append(ArgRule(index=i, value=value, value_two=value & draw(numbers), op=op))
    return tuple(made)


# libseccomp 2.5 joins several rules for one call into one tree, and gets some of them wrong: those
# that order numbers above 32 bits, or have several conditions with other operators than these.
RULES = st.one_of(
    st.lists(conditions(EVERY_OPERATOR, NUMBERS, 3), min_size=1, max_size=1),
    st.lists(conditions(["SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"], NUMBERS, 3), min_size=2, max_size=3),
    st.lists(conditions(EVERY_OPERATOR, SMALL, 1), min_size=2, max_size=3),
)


# the same examples each time: libseccomp takes minutes for some profiles, and can't be stopped
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    rules=st.dictionaries(st.sampled_from(NAMES), RULES, max_size=50),
    calls=st.lists(st.tuples(st.sampled_from(NAMES), st.tuples(*[NUMBERS] * 6)), max_size=60),
)
@pytest.mark.oci("linux.seccomp.syscalls[].args", "linux.seccomp.defaultAction")
def test_a_program_decides_as_its_profile(
    rules: dict[str, Rules], calls: list[tuple[str, tuple[int, ...]]]
) -> None:
    """Any profile, any calls: allowed where all conditions of one of its rules hold."""
    profile = Seccomp(
        default_action="SCMP_ACT_ERRNO",
        default_errno_ret=77,
        syscalls=tuple(
            SyscallRule(names=(name,), action="SCMP_ACT_ALLOW", args=args)
            for name, alternatives in rules.items()
            for args in alternatives
        ),
    )
    program = compile_profile(profile)
    newest = max(map(number, rules), default=2**32)
    for name, args in [*calls, *((name, args) for name in rules for _, args in calls[:3])]:
        allowed = any(
            all(holds(condition, args[condition.index]) for condition in alternative)
            for alternative in rules.get(name, ())
        )
        refusal = errno.ENOSYS if number(name) > newest else 77
        expected = ALLOWED if allowed else ACTIONS["SCMP_ACT_ERRNO"] | refusal
        assert decide(program, OWN, number(name), args) == expected, (name, args)


@pytest.mark.parametrize("above", [0, 2**32, 2**63], ids=hex)
def test_the_default_profiles_conditions_hold_for_every_number(
    default_program: bytes, above: int
) -> None:
    """Several rules for one call, as libseccomp joins them; the kernel's families end at 45."""

    def allowed(name: str, value: int) -> bool:
        return decide(default_program, OWN, number(name), (value | above,)) == ALLOWED

    families = {family for family in range(100) if allowed("socket", family)}
    assert families == (set() if above else {*range(46)} - {socket.AF_ALG, socket.AF_VSOCK})
    personalities = {0, 8, 0x20000, 0x20008, 0xFFFFFFFF}
    tried = {1 << bit for bit in range(32)} | {value ^ 1 for value in personalities} | personalities
    assert {value for value in tried if allowed("personality", value)} == (
        set() if above else personalities
    )
    namespaces = {1 << bit for bit in range(32) if not allowed("clone", 1 << bit | 17)}
    assert namespaces == {0x20000, *(1 << bit for bit in range(25, 31))}


def test_two_conditions_on_one_argument_are_alternatives() -> None:
    """As runtimes have always read them, though libseccomp would join them."""
    args = tuple(ArgRule(index=0, value=value, op="SCMP_CMP_EQ") for value in (2, 5))
    rule = SyscallRule(names=("close",), action="SCMP_ACT_ALLOW", args=args)
    program = compile_profile(Seccomp(default_action="SCMP_ACT_KILL", syscalls=(rule,)))
    assert [decide(program, OWN, number("close"), (fd,)) == ALLOWED for fd in range(7)] == [
        False, False, True, False, False, True, False,
    ]  # fmt: skip


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the compatible ABIs of x86_64")
@pytest.mark.parametrize("name", ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"])
@pytest.mark.oci("linux.seccomp.architectures")
def test_each_architecture_is_filtered_by_its_own_numbers(
    default_program: bytes, name: str
) -> None:
    """mount(2) is 165, 21 and 1073741989: what is refused in one ABI is not reached by another."""
    arch = ARCHITECTURES[name]
    seen_as = OWN if name == "SCMP_ARCH_X32" else arch
    refused, newer = (ACTIONS["SCMP_ACT_ERRNO"] | code for code in (errno.EPERM, errno.ENOSYS))
    for call, expected in (("read", ALLOWED), ("mount", refused), ("keyctl", refused)):
        assert decide(default_program, seen_as, number(call, arch)) == expected
    assert decide(default_program, seen_as, number("read", arch) | 0x7FFF) == newer


@pytest.mark.oci("linux.seccomp.architectures")
def test_an_architecture_that_is_not_listed_is_killed(default_program: bytes) -> None:
    """A program for another machine's ABI can't slip through with numbers of its own."""
    riscv = ARCHITECTURES["SCMP_ARCH_RISCV64"]
    assert decide(default_program, riscv, 63) == ACTIONS["SCMP_ACT_KILL"]


@needs_root
@pytest.mark.parametrize(("above", "answer"), [(True, errno.ENOSYS), (False, errno.EPERM)])
def test_calls_newer_than_the_profile_look_missing(above: bool, answer: int) -> None:
    """So that C libraries fall back to older calls: ENOSYS above the newest that is named."""
    # The calls that the child itself needs to report how it went.
    names = ("exit_group", "futex", "munmap", "mmap", "brk", "rt_sigprocmask", "write", "getrandom")
    tried = "pidfd_getfd" if above else "sync"
    assert (number(tried) > max(map(number, names))) == above
    rule = SyscallRule(names=names, action="SCMP_ACT_ALLOW")
    program = compile_profile(Seccomp(default_action="SCMP_ACT_ERRNO", syscalls=(rule,)))
    assert in_child(filtered(program, make_call(tried, 0, 0, 0))) == answer


def test_calls_that_libseccomp_does_not_know_are_passed_over() -> None:
    """A profile may be newer than the library, and older than some calls' removal."""
    allow = SyscallRule(names=("read",), action="SCMP_ACT_ALLOW")
    newer = SyscallRule(names=("read", "no_such_call"), action="SCMP_ACT_ALLOW")
    plain, passed_over = (
        compile_profile(Seccomp(default_action="SCMP_ACT_ERRNO", syscalls=(rule,)))
        for rule in (allow, newer)
    )
    assert plain == passed_over


# --- bad profiles -----------------------------------------------------------------------------

READ = {"names": ["read"], "action": "SCMP_ACT_ALLOW"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"defaultAction": "ALLOW"}, "linux.seccomp.defaultAction: expected one of SCMP_ACT_KILL"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "linux.seccomp.listenerPath: an absolute path is"),
        (
            {"defaultErrnoRet": 1, "defaultAction": "SCMP_ACT_KILL"},
            "linux.seccomp.defaultErrnoRet:",
        ),
        ({"architectures": ["amd64"]}, "linux.seccomp.architectures[0]: expected one of"),
        ({"architectures": ["SCMP_ARCH_S390X"]}, "libseccomp can't filter SCMP_ARCH_S390X"),
        ({"flags": ["LOG"]}, "linux.seccomp.flags[0]: expected one of SECCOMP_FILTER_FLAG_TSYNC"),
        ({"listenerMetadata": "x"}, "linux.seccomp.listenerMetadata: must not be set"),
        ({"syscalls": [{**READ, "names": []}]}, "linux.seccomp.syscalls[0].names: expected"),
        ({"syscalls": [READ, {**READ, "action": "DENY"}]}, "linux.seccomp.syscalls[1].action:"),
        ({"syscalls": [{**READ, "errnoRet": 1}]}, "linux.seccomp.syscalls[0].errnoRet:"),
        (
            {"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 65536}]},
            "linux.seccomp.syscalls[0].errnoRet: expected 0 to 65535, got 65536",
        ),
        (
            {"syscalls": [{**READ, "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]},
            "linux.seccomp.syscalls[0].args[0].index: expected 0 to 5, got 6",
        ),
        (
            {"syscalls": [{**READ, "args": [{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]}]},
            "linux.seccomp.syscalls[0].args[0].value:",
        ),
        (
            {"syscalls": [{**READ, "args": [{"index": 0, "value": 0, "op": "=="}]}]},
            "linux.seccomp.syscalls[0].args[0].op: expected one of SCMP_CMP_NE",
        ),
        (
            {"syscalls": [{**READ, "action": "SCMP_ACT_NOTIFY"}]},
            "linux.seccomp.listenerPath: an absolute path is required",
        ),
        (
            {"syscalls": [{**READ, "action": "SCMP_ACT_NOTIFY"}], "listenerPath": "a.sock"},
            "linux.seccomp.listenerPath: an absolute path is required",
        ),
        (
            {"flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]},
            "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV makes sense only with",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_profile_is_refused_by_its_path(change: dict[str, Any], complaint: str) -> None:
    """What, where, and what was expected."""
    document = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [READ], **change}
    profile = Seccomp.from_json(document, "linux.seccomp")
    with pytest.raises(InvalidArgument) as caught:
        compile_profile(profile), seccomp.filter_flags(profile)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_child_compiles_the_same(default_program: bytes) -> None:
    """And tells what decided it."""
    program, origins = compile_apart(default_profile(()))
    assert program == default_program
    assert origins == seccomp_compiler.made_from()


def test_what_a_child_refuses_is_refused() -> None:
    """With the same error."""
    profile = Seccomp(default_action="SCMP_ACT_ERRNO", architectures=("amd64",))
    with pytest.raises(InvalidArgument, match=r"^linux\.seccomp\.architectures\[0\]: expected one"):
        compile_apart(profile)


def test_rules_that_take_for_ever_are_given_up() -> None:
    """Forty of this kind keep libseccomp 2.5.4 busy for minutes; with ten it is done at once."""

    def profile(rules: int) -> Seccomp:
        ops = ("SCMP_CMP_NE", "SCMP_CMP_GT", "SCMP_CMP_LE")
        conditions = (
            tuple(
                ArgRule(index=(i + j) % 6, value=i * 7919 * (j + 1), op=ops[(i + j) % 3])
                for j in range(3)
            )
            for i in range(rules)
        )
        return Seccomp(
            default_action="SCMP_ACT_ERRNO",
            syscalls=tuple(
                SyscallRule(names=("ioctl",), action="SCMP_ACT_ALLOW", args=args)
                for args in conditions
            ),
        )

    assert compile_apart(profile(10))[0]
    with pytest.raises(InvalidArgument, match=r"needs more than 1 s for these rules"):
        compile_apart(profile(40), timeout_s=1)


def test_more_instructions_than_the_kernel_takes_are_refused() -> None:
    """Before anything is created: seccomp(2) would only say EINVAL."""

    def profile(rules: int) -> Seccomp:
        conditions = (ArgRule(index=1, value=i, op="SCMP_CMP_EQ") for i in range(rules))
        return Seccomp(
            default_action="SCMP_ACT_ERRNO",
            syscalls=tuple(
                SyscallRule(names=("ioctl",), action="SCMP_ACT_ALLOW", args=(condition,))
                for condition in conditions
            ),
        )

    assert len(compile_profile(profile(4000))) <= 4096 * 8
    with pytest.raises(
        InvalidArgument, match=r"compile to \d+ instructions, and the kernel takes 4096"
    ):
        compile_profile(profile(4100))
